#!/bin/sh
# Makes the two font files of this folder from Debian's fonts-noto-cjk:
# Noto Sans CJK SC, Regular and Bold, cut down to Latin, the 3,755 common
# characters of GB 2312 level 1 (policies bring texts of their own) and every
# character of the catalogues. Run it after a sentence gained a character that
# the tests miss.
#
#   apt-get install fonts-noto-cjk fonttools && ui/font/subset.sh
set -eu
cd "$(dirname "$0")"
chars=$(mktemp)
trap 'rm -f "$chars"' EXIT
python3 - ../../kiosk/words/*.json >"$chars" <<'PY'
import sys
chars = set(chr(c) for r in [(0x20, 0x7F), (0xA0, 0x180), (0x2010, 0x2028), (0x3000, 0x3018), (0xFF01, 0xFF5F)] for c in range(*r))
chars |= set("\u2030\u2032\u2033\u20ac\u2116\u2122\u2190\u2191\u2192\u2193\u00d7\ufffd")
for row in range(0xB0, 0xD8):
    for col in range(0xA1, 0xFF):
        try:
            chars.add(bytes([row, col]).decode("gb2312"))
        except UnicodeDecodeError:
            pass
for path in sys.argv[1:]:
    chars |= set(open(path, encoding="utf-8").read())
sys.stdout.buffer.write("".join(sorted(chars - set("\n"))).encode("utf-8"))
PY
for weight in Regular Bold; do
	SOURCE_DATE_EPOCH=0 pyftsubset "/usr/share/fonts/opentype/noto/NotoSansCJK-$weight.ttc" --font-number=2 \
		--text-file="$chars" --layout-features=kern,liga --name-IDs='*' --notdef-outline \
		--no-hinting --output-file="NotoSansSC-$weight.otf"
done
