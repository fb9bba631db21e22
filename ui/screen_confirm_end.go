package ui

import "enrollkiosk/kiosk/words"

// confirmEnd: what ends for good, before it does.
func (d *drawing) confirmEnd() page { return d.told(words.End1, words.End2, words.End3) }
