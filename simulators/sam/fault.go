package sam

import "fmt"

// Fault is a way in which module, line or card is wrong.
type Fault string

// The faults.
const (
	NoAnswer      Fault = "no-answer"      // takes commands and says nothing
	HalfFrame     Fault = "half-frame"     // stops in the middle of an answer
	WrongChecksum Fault = "wrong-checksum" // one bit of the checksum is wrong
	ShortLength   Fault = "short-length"   // the length is one too small
	LongLength    Fault = "long-length"    // the length is one too large
	HugeLength    Fault = "huge-length"    // the length is 65535
	NoiseFirst    Fault = "noise-first"    // bytes come before the answer, beginnings of frames among them
	EndlessNoise  Fault = "endless-noise"  // bytes come without end, and no answer
	SlowBytes     Fault = "slow-bytes"     // one byte at a time
	LateAnswer    Fault = "late-answer"    // every answer is late by 350 ms
	CardRemoved   Fault = "card-removed"   // the card goes when it is to be read
	UnknownCodes  Fault = "unknown-codes"  // sex and ethnic group are codes of no standard
	NotText       Fault = "not-text"       // the name is half a surrogate pair
	UnknownStatus Fault = "unknown-status" // every status is one of no protocol sheet
	Defective     Fault = "defective"      // the module's self-test failed
	Unauthorised  Fault = "unauthorised"   // the module was not authorised
	NotGenuine    Fault = "not-genuine"    // the card does not prove itself to the module
	WrongCard     Fault = "wrong-card"     // a card of another kind
)

// Faults lists every fault.
func Faults() []Fault {
	return []Fault{NoAnswer, HalfFrame, WrongChecksum, ShortLength, LongLength, HugeLength, NoiseFirst, EndlessNoise, SlowBytes,
		LateAnswer, CardRemoved, UnknownCodes, NotText, UnknownStatus, Defective, Unauthorised, NotGenuine, WrongCard}
}

// ParseFault takes a fault's name.
func ParseFault(name string) (Fault, error) {
	for _, f := range Faults() {
		if string(f) == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("sam: no fault is called %q", name)
}

// status is the SW3 that the fault answers to everything.
func (f Fault) status() (sw3 byte, fails bool) {
	sw3, fails = map[Fault]byte{
		UnknownStatus: 0xEE, Defective: 0x60, Unauthorised: 0x66, NotGenuine: 0x32, WrongCard: 0x40,
	}[f]
	return sw3, fails
}
