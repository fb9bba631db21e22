package pivtoken

import (
	"fmt"
	"strings"
)

// Fault is a set of things that are wrong with a token.
type Fault uint16

// The faults. They combine with |.
const (
	NoAttestation Fault = 1 << iota // INS ATTEST is unknown, as on cards that cannot attest
	ForeignRoot                     // the attestation chains to another root of the same name
	WrongSlot                       // the attestation names another slot
	SoftwareKey                     // the attestation is genuine, but of another key than the one that signs
	PINBlocked                      // no PIN tries left
	NoTouch                         // nobody ever touches it
	Provisioned                     // not factory-new: own PIN (ProvisionedPIN), PUK, management key, key and certificate in 9A
	PlainNIST                       // SP 800-73-4 only: none of Yubico's instructions, algorithms and policies
	CopiedChain                     // the attestation is a genuine one of another key, copied from another token with this serial number
	SoftwareLeaf                    // the attestation is signed by a software key, with a genuine token's F9 certificate beside it
	LikeNitrokey                    // selected by nine bytes or more, one version and serial number for all, no attestation, empty metadata
	LikePivApplet                   // 3DES, P-256 and RSA; no attestation, no metadata, no key agreement
	NoAgreement                     // GENERAL AUTHENTICATE knows no exponentiation: no ECDH with any key
	LateAgreement                   // the same, but found out only with a key: an empty slot answers as always
	NoEd25519                       // the algorithm is unknown
	OtherOrigins                    // origins are numbered from 0, not from 1
)

// ProvisionedPIN is the PIN of a token with the fault Provisioned.
const ProvisionedPIN = "802469"

var faultNames = []string{
	"no-attestation", "foreign-root", "wrong-slot", "software-key",
	"pin-blocked", "no-touch", "provisioned", "plain-nist",
	"copied-chain", "software-leaf", "like-nitrokey", "like-pivapplet",
	"no-agreement", "late-agreement", "no-ed25519", "other-origins",
}

// ParseFault reads a list of names separated by commas, as String writes it.
func ParseFault(list string) (Fault, error) {
	var f Fault
	if list == "" {
		return 0, nil
	}
next:
	for name := range strings.SplitSeq(list, ",") {
		for i, known := range faultNames {
			if name == known {
				f |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("unknown token fault %q: use %s", name, strings.Join(faultNames, ", "))
	}
	return f, nil
}

func (f Fault) String() string {
	var names []string
	for i, name := range faultNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
