// Package conformance holds the inspection of eMRTDs to the test plan of BSI
// TR-03105 Part 5.1, row by row: a card with one deviation from a good one is
// issued, the whole procedure of smartcard/inspection is run on it, and what it
// ends with must be what the plan's table in testdata asks.
//
// There is nothing here but tests. The table is printed by
//
//	go -C smartcard/conformance test -run TestConformance -count=1 -args -table
package conformance
