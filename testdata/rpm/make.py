"""Makes the databases of this folder, or the same of other headers: a file with one in hexadecimal a line.

    make.py FOLDER [HEADERS]     Berkeley DB's by db5.3_load(1), SQLite's by its library; rpm's own as
                                 lib/backend/ndb/rpmpkg.c writes it, which Debian's rpm is built without
"""

import os, sqlite3, struct, subprocess, sys, zlib


def header(fields):
    index, data = b"", b""
    for tag, kind, value in fields:
        if kind == 4:
            data += b"\0" * (-len(data) % 4)
        index += struct.pack(">IIII", tag, kind, len(data), 1)
        data += struct.pack(">I", value) if kind == 4 else value.encode() + b"\0"
    return struct.pack(">II", len(fields), len(data)) + index + data


def small():
    for name, words in [("short", 1), ("longer", 40), ("long", 300)]:
        yield header([(1000, 6, name), (1001, 6, "1.2"), (1002, 6, "3"), (1003, 4, 4), (1005, 9, "word " * words),
                      (1011, 6, "Vendor"), (1014, 6, "MIT"), (1022, 6, "noarch")])
    yield header([(1000, 6, "gpg-pubkey"), (1001, 6, "1"), (1002, 6, "1")])


def bdb(path, headers, page):
    rows = [(0, struct.pack("<I", len(headers)))] + list(enumerate(headers, 1))
    lines = "".join(f" {struct.pack('<I', number).hex()}\n {value.hex()}\n" for number, value in rows)
    dump = f"VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page}\nHEADER=END\n{lines}DATA=END\n"
    subprocess.run(["db5.3_load", path], input=dump.encode(), check=True)


def sqlite(path, headers, page):
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA page_size = {page}")
    db.execute("CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    db.executemany("INSERT INTO Packages (blob) VALUES (?)", [(header,) for header in headers])
    db.commit()
    db.close()


def ndb(path, headers):
    pages = (2 + len(headers) * 2) // 256 + 1
    slots, blobs, block = [], b"", pages * 256
    for number, header in enumerate(headers, 1):
        # A package that was erased leaves its slot free.
        slots.append(b"Slot" + bytes(12))
        head = b"BlbS" + struct.pack("<III", number, 7, len(header))
        filled = head + header + bytes(-(len(head) + len(header) + 12) % 16)
        blob = filled + struct.pack("<II", zlib.adler32(filled), len(header)) + b"BlbE"
        slots.append(b"Slot" + struct.pack("<III", number, block, len(blob) // 16))
        blobs += blob
        block += len(blob) // 16
    slots += [b"Slot" + bytes(12)] * (pages * 256 - 2 - len(slots))
    start = b"RpmP" + struct.pack("<IIII", 0, 7, pages, len(headers) + 1) + bytes(12)
    with open(path, "wb") as file:
        file.write(start + b"".join(slots) + blobs)


if __name__ == "__main__":
    folder = sys.argv[1]
    given = [bytes.fromhex(line) for line in open(sys.argv[2])] if len(sys.argv) > 2 else None
    headers, page = (given, 4096) if given else (list(small()), 512)
    for name in ["Packages", "rpmdb.sqlite", "Packages.db"]:
        if os.path.exists(os.path.join(folder, name)):
            os.remove(os.path.join(folder, name))
    bdb(os.path.join(folder, "Packages"), headers, page)
    sqlite(os.path.join(folder, "rpmdb.sqlite"), headers, page)
    ndb(os.path.join(folder, "Packages.db"), headers)
