package ui

import "enrollkiosk/kiosk/words"

// noToken: who has no token may leave the key in this kiosk. What that means
// stands here before anybody chooses it.
func (d *drawing) noToken() page {
	return d.told(words.CustodyPlace, words.CustodySites, words.CustodyLater, words.CustodyLost)
}
