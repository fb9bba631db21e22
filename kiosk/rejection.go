package kiosk

// Rejection is why a record was set aside: a code of the registry or the identity
// authority (docs/openapi.yaml, Code), or of this kiosk's queue. A closed list, for
// the sentences of kiosk/words; a code that is not in it is RejectedOtherwise.
type Rejection string

const (
	RejectedSize           Rejection = "record-size"
	RejectedCanonical      Rejection = "record-canonical"
	RejectedForm           Rejection = "record-form"
	RejectedSigners        Rejection = "record-signers"
	RejectedSignature      Rejection = "record-signature"
	RejectedAudience       Rejection = "record-audience"
	RejectedEvidence       Rejection = "record-attestation"
	RejectedFork           Rejection = "registry-fork"
	RejectedChain          Rejection = "registry-chain"
	RejectedReplay         Rejection = "registry-replay"
	RejectedKiosk          Rejection = "registry-kiosk"
	RejectedKioskRevoked   Rejection = "registry-kiosk-revoked"
	RejectedOfficer        Rejection = "registry-officer"
	RejectedOfficerRevoked Rejection = "registry-officer-revoked"
	RejectedAttestation    Rejection = "registry-attestation"
	RejectedSimulated      Rejection = "registry-simulated"
	RejectedPolicy         Rejection = "registry-policy"
	RejectedPolicyStale    Rejection = "registry-policy-stale"
	RejectedPolicyUnknown  Rejection = "registry-policy-unknown"
	RejectedTime           Rejection = "registry-time"
	RejectedDuplicateKey   Rejection = "registry-duplicate-key"
	RejectedHolder         Rejection = "registry-holder"
	RejectedSuspended      Rejection = "registry-suspended"
	RejectedCancelled      Rejection = "registry-cancelled"
	RejectedRevoked        Rejection = "registry-revoked"
	RejectedReplaced       Rejection = "registry-replaced"
	RejectedID             Rejection = "registry-id"
	RefusedSeal            Rejection = "vault-seal"
	RefusedDocument        Rejection = "vault-document"
	RefusedGuardian        Rejection = "vault-guardian"
	RefusedOfficer         Rejection = "vault-officer"
	RefusedReview          Rejection = "vault-review"
	RejectedDamaged        Rejection = "queue-damaged" // both copies on this disk
	RejectedOtherwise      Rejection = "other"
)

// Advice is the one thing to do about a record that was set aside.
type Advice string

const (
	AdviceEnroll   Advice = "enroll-again"  // call the citizen and begin anew
	AdviceStaff    Advice = "call-staff"    // this kiosk must be put right first
	AdviceSuper    Advice = "supervisor"    // somebody must look into it before anything else
	AdviceRegistry Advice = "tell-registry" // give it the record, on a drive if there is no line
)

var advices = map[Rejection]Advice{
	RejectedSize: AdviceRegistry, RejectedCanonical: AdviceRegistry, RejectedForm: AdviceRegistry, RejectedSigners: AdviceRegistry,
	RejectedSignature: AdviceRegistry, RejectedAudience: AdviceStaff, RejectedEvidence: AdviceRegistry,
	RejectedFork: AdviceStaff, RejectedChain: AdviceStaff, RejectedReplay: AdviceRegistry, RejectedKiosk: AdviceStaff, RejectedKioskRevoked: AdviceStaff,
	RejectedOfficer: AdviceEnroll, RejectedOfficerRevoked: AdviceSuper, RejectedAttestation: AdviceEnroll, RejectedSimulated: AdviceSuper,
	RejectedPolicy: AdviceStaff, RejectedPolicyStale: AdviceStaff, RejectedPolicyUnknown: AdviceStaff, RejectedTime: AdviceStaff,
	RejectedDuplicateKey: AdviceEnroll, RejectedHolder: AdviceEnroll, RejectedSuspended: AdviceSuper, RejectedCancelled: AdviceSuper,
	RejectedRevoked: AdviceSuper, RejectedReplaced: AdviceSuper, RejectedID: AdviceRegistry,
	RefusedSeal: AdviceRegistry, RefusedDocument: AdviceSuper, RefusedGuardian: AdviceSuper, RefusedOfficer: AdviceSuper, RefusedReview: AdviceSuper,
	RejectedDamaged: AdviceEnroll, RejectedOtherwise: AdviceRegistry,
}

// RejectionOf is the one with a code.
func RejectionOf(code string) Rejection {
	if _, known := advices[Rejection(code)]; known {
		return Rejection(code)
	}
	return RejectedOtherwise
}

// Advice is what to do about it.
func (r Rejection) Advice() Advice { return advices[RejectionOf(string(r))] }
