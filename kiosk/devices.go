package kiosk

import (
	"context"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/sync/queue"
)

// Readers are the card readers of this machine, by role.
type Readers interface {
	// Watch yields what each reader shows, at once and at every change, until
	// ctx ends. An error means that the smart card service is not running.
	Watch(ctx context.Context) (<-chan map[Device]ReaderState, error)
	// Card connects to the card in a reader.
	Card(ctx context.Context, d Device) (Card, error)
}

// Card is a connected card; Close releases it.
type Card interface {
	apdu.Card
	Reset(ctx context.Context) error
	ATR() []byte
	MaxAPDU() int // what the reader carries, 0 if it does not say
	Close() error
}

// Residents is the module that reads resident identity cards of China. A card on
// it shows as one on the document's reader.
type Residents interface {
	inspection.Module
	// Present says whether a card lies on the module.
	Present() bool
}

// Portraits draws faces. Picture makes a PNG of the image on a document of some
// kind: foreign bytes, which nothing else looks into.
type Portraits interface {
	Picture(ctx context.Context, kind identity.Kind, image []byte) ([]byte, error)
}

// Tokens opens PIV tokens by the role of their reader. Open probes first and
// writes nothing; it returns hsm's typed errors.
type Tokens interface {
	Open(ctx context.Context, d Device) (Token, error)
}

// Token is one PIV token. Its methods return hsm's typed errors and never retry
// a PIN.
type Token interface {
	Info() TokenInfo
	SetPIN(ctx context.Context, pin secret.Text) error
	GenerateKeys(ctx context.Context, rules TokenRules, progress func(hsm.Progress)) (TokenKeys, error)
	Lock(ctx context.Context, pin secret.Text, admin TokenAdmin) error
	Reset(ctx context.Context) error
	VerifyPIN(ctx context.Context, pin secret.Text) error
	Certificate(ctx context.Context, slot Slot) ([]byte, error) // DER
	Key(ctx context.Context, slot Slot, pin secret.Text) (hsm.Key, error)
	Close() error
}

// Slot is a PIV key reference (SP 800-73-4 Part 1 table 4b).
type Slot byte

const (
	SlotAuthentication Slot = 0x9A
	SlotSignature      Slot = 0x9C
	SlotKeyManagement  Slot = 0x9D
)

// TokenInfo tells tokens apart before anything is written.
type TokenInfo struct {
	Serial     uint32
	Firmware   [3]byte
	FactoryNew bool
	PINBlocked bool
	CanAttest  bool
}

// TokenRules are the policy's wishes for the citizen's keys.
type TokenRules struct {
	TouchAlways bool // 9A asks for a touch at every signature
}

// TokenKeys are the citizen's key pairs with their evidence, unverified.
type TokenKeys struct {
	Authentication TokenKey // 9A
	KeyManagement  TokenKey // 9D
}

// TokenKey is one generated key.
type TokenKey struct {
	Public   []byte // SubjectPublicKeyInfo, DER
	Evidence hsm.PIVEvidence
}

// TokenAdmin is what administers a token afterwards. It is sealed to the
// identity authority before it is set.
type TokenAdmin struct{ PUK, ManagementKey secret.Text }

// TPM is the kiosk's own TPM.
type TPM interface {
	RecordKey() hsm.Key
	Counter(ctx context.Context) (uint64, error)
	Increment(ctx context.Context) (uint64, error)
}

// Queue keeps records durably: after Put returned nil the record survives a
// power cut.
type Queue interface {
	Put(ctx context.Context, item queue.Item) error
	Head(ctx context.Context) ([]byte, error)
	SetHead(ctx context.Context, head []byte) error
	Stats(ctx context.Context) (queue.Stats, error)
	Room(ctx context.Context) error
}

// Activity counts what is done in officers' names, durably and by days (UTC). It
// knows officers by the SHA-256 of their certificates, and nothing of citizens.
type Activity interface {
	// Opened counts a document that is about to be opened: after nil the count
	// survives a power cut.
	Opened(officer [32]byte, at time.Time) error
	// Enrolled counts an enrollment that has been saved.
	Enrolled(officer [32]byte, at time.Time) error
	// Enrollments are those of a day: the officer's own, and this kiosk's.
	Enrollments(officer [32]byte, at time.Time) (own, all uint64)
}

// Delivery is the courier as the flow sees it.
type Delivery interface {
	// Events yields what happens to records, until ctx ends.
	Events(ctx context.Context) <-chan DeliveryEvent
	// Kick asks for an attempt now.
	Kick()
}

// DeliveryEvent is news about one record, or about the line when ID is zero.
type DeliveryEvent struct {
	ID      queue.ID
	Stage   DeliveryStage
	Receipt []byte // Receipted: the final receipt, verified
	Code    Code   // Trouble and Quarantined: why
}

// DeliveryStage is how far a record is.
type DeliveryStage string

const (
	Accepted    DeliveryStage = "accepted"
	Receipted   DeliveryStage = "receipted"
	Purged      DeliveryStage = "purged"
	Quarantined DeliveryStage = "quarantined"
	Activated   DeliveryStage = "activated" // the identity authority has signed: it holds
	Refused     DeliveryStage = "refused"   // it has signed: it does not
	Reached     DeliveryStage = "reached"   // the registry answered
	Trouble     DeliveryStage = "trouble"   // it did not; Code says why
)
