// A broadcast server on uWebSockets that keeps the contract of `--peer-path` (docs/BENCHMARKS.md says how to build it):
// it is started as `PROGRAM PORT SUBJECTS`, a client at `/NUMBER,NUMBER,...` gets the messages of those subjects, and a
// client at `/publish` sends each message behind the four bytes of its subject's number, little endian.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "App.h"

struct Client {
    std::string subjects;
};

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    uWS::App app;
    app.ws<Client>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 128 * 1024,
        .idleTimeout = 0,
        .maxBackpressure = 64 * 1024 * 1024,
        .sendPingsAutomatically = false,
        .upgrade = [](auto *response, auto *request, auto *context) {
            response->template upgrade<Client>({std::string(request->getUrl().substr(1))},
                request->getHeader("sec-websocket-key"), request->getHeader("sec-websocket-protocol"),
                request->getHeader("sec-websocket-extensions"), context);
        },
        .open = [](auto *client) {
            // Moved out, so that what a session takes is its subscriptions and not its address.
            std::string subjects = std::move(client->getUserData()->subjects);
            client->getUserData()->subjects = std::string();
            if (subjects == "publish") return;
            for (size_t from = 0, comma = 0; comma != std::string::npos; from = comma + 1) {
                comma = subjects.find(',', from);
                client->subscribe(subjects.substr(from, comma == std::string::npos ? comma : comma - from));
            }
        },
        .message = [&app](auto *, std::string_view message, uWS::OpCode) {
            uint32_t number;
            if (message.size() < sizeof number) return;
            std::memcpy(&number, message.data(), sizeof number);
            app.publish(std::to_string(number), message.substr(sizeof number), uWS::OpCode::TEXT, false);
        },
    }).listen("127.0.0.1", std::atoi(argv[1]), [](auto *socket) {
        if (!socket) std::exit(1);
    }).run();
}
