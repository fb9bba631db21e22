// Package beid is a virtual Belgian identity card that speaks bytes, the
// National Register that personalises it, and its faults.
//
// A [Card] answers the commands that need no PIN as the Belpic applet behind a
// T=0 reader does: SELECT by name, path and identifier without a word about the
// file, READ BINARY with 6Cxx before and 6B00 behind the end, GET RESPONSE, GET
// CARD DATA and, from applet 1.8 on, INTERNAL AUTHENTICATE with the card's
// basic key. An [Issuer] plays the root, the National Register's signer and a
// citizen authority; its keys are made at random.
//
// Invariants: every command gets an answer of at least two bytes; people and
// portraits are invented. Encoding and cryptography are this package's own, so
// that one mistake cannot hide in the card and in its reader alike. OpenSC's
// eidenv and pkcs15-tool read the card, openssl verifies what it holds; no real
// card was at hand.
//
// Left out: PIN, the holder's own keys and certificates, updating the address.
package beid
