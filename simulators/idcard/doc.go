// Package idcard is a virtual electronic identity card: an eMRTD chip (ICAO Doc
// 9303) that speaks bytes, the authority that personalises it, and its faults.
//
// A [Chip] answers command APDUs as a contactless chip behind a PC/SC reader
// does: PACE over elliptic curves and finite fields with every mapping, Basic
// Access Control or none, secure messaging with 3DES and AES, Chip
// Authentication, Active Authentication, and files. A [Profile] is all that it
// is made of; Profile.Edit changes any answer on its way out, for tests of what
// a reader does then. An [Authority] plays the issuing state: a country signing
// CA and a document signer, both marked as specimens.
//
// Invariants: unless the profile says that the card is open, nothing but
// EF.CardAccess, EF.ATR/INFO and EF.DIR leaves the chip before access control; a
// command outside secure messaging ends the session; every command gets an answer
// of at least two bytes, but where a fault swallows it. Cryptography, encoding and
// parsing are this package's own, so that one mistake cannot hide in the card
// and in its reader alike. The worked examples of Doc 9303-11 and openssl hold it.
//
// It is no model of a chip's resistance to attack: nothing here runs in constant
// time, and keys lie in memory. Left out: PACE on explicit domain parameters;
// Terminal Authentication (EF.DG3 and EF.DG4 stay closed to everyone).
package idcard
