// Package conformance holds the inspection of eMRTDs to the test plan of BSI
// TR-03105 Part 5.1, row by row: a card with one deviation from a good one is
// issued, the whole procedure of smartcard/inspection is run on it, and what it
// ends with must be what the plan's table in testdata asks.
//
// There is nothing here but tests. make conformance prints the table: what was
// expected, what came, and why.
package conformance
