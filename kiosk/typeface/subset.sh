#!/bin/sh
# Makes the font files of this folder from Debian's fonts-noto-cjk and
# fonts-noto-core: Noto Sans CJK SC, Regular and Bold, cut down to Latin, the
# 3,755 common characters of GB 2312 level 1 (policies bring texts of their own)
# and every character of the catalogues; and Noto Sans Devanagari with the Latin
# letters of Noto Sans in the same file, since a line of Hindi has both. Run it
# after a sentence gained a character that the tests miss.
#
#   apt-get install fonts-noto-cjk fonts-noto-core fonttools && kiosk/typeface/subset.sh
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=0
latin=U+20-7E,U+A0-17F,U+2010-2027,U+2030,U+2032,U+2033,U+20AC,U+2116,U+2122,U+2190-2193,U+D7,U+FFFD
python3 - ../words/*.json >"$work/chars" <<'PY'
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
chars -= set(chr(c) for c in range(0x900, 0x980))
sys.stdout.buffer.write("".join(sorted(chars - set("\n"))).encode("utf-8"))
PY
noto=/usr/share/fonts/truetype/noto
for weight in Regular Bold; do
	pyftsubset "/usr/share/fonts/opentype/noto/NotoSansCJK-$weight.ttc" --font-number=2 \
		--text-file="$work/chars" --layout-features=kern,liga --name-IDs='*' --notdef-outline \
		--no-hinting --output-file="NotoSansSC-$weight.otf"
	pyftsubset "$noto/NotoSansDevanagari-$weight.ttf" --unicodes=U+900-97F,U+200C,U+200D,U+25CC \
		--layout-features='*' --notdef-outline --no-hinting --output-file="$work/devanagari.ttf"
	pyftsubset "$noto/NotoSans-$weight.ttf" --unicodes="$latin" --layout-features=kern,liga,mark,mkmk \
		--no-hinting --output-file="$work/latin.ttf"
	pyftmerge --output-file="NotoSansDevanagari-$weight.ttf" "$work/devanagari.ttf" "$work/latin.ttf"
done
