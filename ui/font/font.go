// Package font carries the window's typeface: Noto Sans CJK SC in two weights,
// cut down by subset.sh to what the screens need, under the licence in OFL.txt.
// One face serves Latin and Chinese, so that a change of language moves
// nothing and no picture depends on the fonts a machine happens to have.
package font

import _ "embed"

// Regular and Bold are OpenType files. Nobody may change them.
var (
	//go:embed NotoSansSC-Regular.otf
	Regular []byte
	//go:embed NotoSansSC-Bold.otf
	Bold []byte
)
