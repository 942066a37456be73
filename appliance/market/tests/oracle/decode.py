"""What an independent reader makes of a BinaryFILE: its trades in order, then each instrument's best quotes.

Usage: decode.py FILE. Decoding is PyPI's itchfeed; the book is a dictionary, searched in full. Prints JSON lines.
"""

import json
import sys

from itch.parser import MessageParser

SIDES = {b"B": "bid", b"S": "ask"}


def main(path):
    orders = {}  # reference -> [symbol, side, price, shares]
    prints = {}  # match number -> trade
    symbols = {}  # in the order of their appearance

    def trade(symbol, price, shares, side, match, kind):
        line = {"symbol": symbol, "px": price, "sz": shares, "side": side, "match": match, "kind": kind}
        if kind != "broken":
            prints[match] = line
        print(json.dumps(line))

    def take(reference, shares):
        orders[reference][3] -= shares
        if orders[reference][3] <= 0:
            del orders[reference]

    with open(path, "rb") as file:
        for message in MessageParser().parse_file(file):
            kind = message.message_type
            reference = getattr(message, "order_reference_number", None)
            if kind in b"AF":
                symbol = message.stock.decode().rstrip()
                symbols[symbol] = True
                orders[reference] = [symbol, message.buy_sell_indicator, message.price, message.shares]
            elif kind in b"EC" and reference in orders:
                symbol, side, price, _ = orders[reference]
                if kind == b"C":
                    price = message.execution_price
                if kind == b"E" or message.printable == b"Y":
                    shares, match = message.executed_shares, message.match_number
                    trade(symbol, price, shares, side.decode(), match, "execution")
                take(reference, message.executed_shares)
            elif kind == b"X" and reference in orders:
                take(reference, message.cancelled_shares)
            elif kind == b"D":
                orders.pop(reference, None)
            elif kind == b"U" and reference in orders:
                symbol, side, _, _ = orders.pop(reference)
                orders[message.new_order_reference_number] = [symbol, side, message.price, message.shares]
            elif kind == b"P":
                symbol, side = message.stock.decode().rstrip(), message.buy_sell_indicator.decode()
                trade(symbol, message.price, message.shares, side, message.match_number, "hidden")
            elif kind == b"Q" and message.shares > 0:
                symbol = message.stock.decode().rstrip()
                trade(symbol, message.cross_price, message.shares, None, message.match_number, "cross")
            elif kind == b"B" and message.match_number in prints:
                was = prints.pop(message.match_number)
                trade(was["symbol"], was["px"], was["sz"], was["side"], was["match"], "broken")

    for symbol in symbols:
        best = {"symbol": symbol, "bid": None, "ask": None}
        for side, pick in ((b"B", max), (b"S", min)):
            mine = [order for order in orders.values() if order[0] == symbol and order[1] == side]
            if mine:
                price = pick(order[2] for order in mine)
                shares = [order[3] for order in mine if order[2] == price]
                best[SIDES[side]] = [price, sum(shares), len(shares)]
        print(json.dumps(best))


if __name__ == "__main__":
    main(sys.argv[1])
