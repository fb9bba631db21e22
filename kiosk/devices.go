package kiosk

import (
	"context"
	"crypto"
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

// Printer puts receipts, and the summary of a day, on paper. Its methods return nil
// only when the page has come out: otherwise ErrPrinter, or the error of a deadline.
type Printer interface {
	Print(ctx context.Context, r ReceiptView, language string, training bool) error
	PrintDay(ctx context.Context, v DayView, language string, training bool) error
}

// Folder takes what would be printed, and records that were set aside, as files: the
// name of the file, or ErrFolder. A receipt with a cancel code is never written.
type Folder interface {
	Write(ctx context.Context, r ReceiptView, language string, training bool) (file string, err error)
	WriteDay(ctx context.Context, v DayView, language string, training bool) (file string, err error)
	// WriteRecord writes a record as it is kept, sealed and signed, with why it was
	// set aside.
	WriteRecord(ctx context.Context, id queue.ID) (file string, err error)
}

// Archive is what this kiosk remembers of the records that it made. It knows of no
// others, and of these nothing that names a person.
type Archive interface {
	// Recent are records of either kind, SetAside those in quarantine: the newest
	// first, at most limit. Entries have no QR.
	Recent(ctx context.Context, limit int) ([]RecordView, error)
	SetAside(ctx context.Context, limit int) ([]RecordView, error)
	// Matching are the ids that begin with some hexadecimal digits, at most limit.
	Matching(ctx context.Context, digits string, limit int) ([]queue.ID, error)
	// Record is one record, with its final receipt if there is one, and with its
	// bytes as they were put while they are here; ErrNoRecord.
	Record(ctx context.Context, id queue.ID) (v RecordView, final string, data []byte, err error)
	// Since counts what became of records from some time on.
	Since(ctx context.Context, t time.Time) (delivered, refused int, err error)
}

// Diary counts what happens at this desk, by officers and local days, for its
// officers. It knows officers by the SHA-256 of their certificates, and nothing of
// citizens. Note is durable when it has returned nil.
type Diary interface {
	Note(officer [32]byte, at time.Time, more DayCounts) error
	Day(officer [32]byte, at time.Time) (own, all DayCounts)
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
	GenerateKeys(ctx context.Context, pin secret.Text, rules TokenRules, progress func(hsm.Progress)) (TokenKeys, error)
	Lock(ctx context.Context, pin secret.Text, admin TokenAdmin) error
	// Ready says whether the token, as it was when it was opened, can be handed out.
	Ready() error
	Reset(ctx context.Context) error
	// VerifyPIN presents the PIN once. The last try is refused with ErrLastTry and
	// costs nothing, unless insist says that the person knows it is the last.
	VerifyPIN(ctx context.Context, pin secret.Text, insist bool) error
	ChangePIN(ctx context.Context, old, pin secret.Text) error
	// Attest has the token state where the key in a slot comes from; ErrNoKey.
	Attest(ctx context.Context, slot Slot) (TokenKey, error)
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
	SlotRetired        Slot = 0x82 // the first of twenty
)

// TokenInfo tells tokens apart before anything is written.
type TokenInfo struct {
	Serial     uint32
	Firmware   [3]byte
	FactoryNew bool
	PINBlocked bool
	PUKBlocked bool
	CanAttest  bool
	CanAgree   bool // of a factory-new token: it does not refuse ECDH
}

// TokenRules are the policy's wishes for the citizen's keys. An empty member
// means P-256, PIN once in a session, and touch always for 9A, cached for others.
type TokenRules struct {
	Authentication hsm.KeyRule
	KeyManagement  hsm.KeyRule
	Retired        []hsm.KeyRule // from slot 82 on
}

// TokenKeys are the citizen's key pairs with their evidence, unverified.
type TokenKeys struct {
	Authentication TokenKey   // 9A
	KeyManagement  TokenKey   // 9D
	Retired        []TokenKey // from slot 82 on
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

// Custody keeps citizens' keys in the kiosk's TPM, each under its citizen's own
// PIN ("station custody"), with a note beside each. What it returned nil for is
// durable. Its methods may be called concurrently.
type Custody interface {
	// TPM is what a verifier knows of the TPM that the keys live in.
	TPM(ctx context.Context) (TPMIdentity, error)
	// Create makes a key that is bound at birth to outside.
	Create(ctx context.Context, outside [32]byte, pin secret.Text) (CustodyKey, error)
	// Keys names all keys that are here; Key opens one, ErrKeyGone if it is not.
	Keys(ctx context.Context) ([]string, error)
	Key(ctx context.Context, name string) (CustodyKey, error)
	// Notes lists the notes. With an error it lists those that can be read.
	Notes(ctx context.Context) ([]CustodyNote, error)
	// Note writes a note, in the place of the one of the same number.
	Note(ctx context.Context, n CustodyNote) error
	// Forget destroys a key, Drop removes a note. Either may be gone already.
	Forget(ctx context.Context, key string) error
	Drop(ctx context.Context, number string) error
}

// CustodyKey is one citizen's key. Signing with it returns hsm's typed errors,
// or ErrLastTry.
type CustodyKey interface {
	Name() string
	Public() crypto.PublicKey
	// Evidence has the TPM state how the key was born (TPM2_CertifyCreation).
	Evidence(ctx context.Context, qualifying [32]byte) (hsm.TPMEvidence, error)
	// Signer signs under pin. The last try is refused with ErrLastTry and costs
	// nothing, unless insist says that the person knows it is the last.
	Signer(pin secret.Text, insist bool) hsm.Key
}

// TPMIdentity is what VerifyTPM of hsm/attest has to know of a TPM.
type TPMIdentity struct {
	AK             []byte   // TPMT_PUBLIC of the attestation key
	ParentName     []byte   // name of the storage root key
	EKCertificates [][]byte // DER, with the issuers' that the TPM holds
}

// CustodyNote says whose number a key in custody has and what has become of it.
// Nothing in it is secret or names a person.
type CustodyNote struct {
	Number     string   // what the citizen comes back with
	Key        string   // the key's name; "" while it is being made
	Record     queue.ID // that brought the key; zero until it is signed
	Saved      bool     // the record is known to have been saved
	ReplacedBy queue.ID // the record that moves the holder to another key; zero for none
}

// Queue keeps records durably: after Put returned nil the record survives a
// power cut.
type Queue interface {
	Put(ctx context.Context, item queue.Item) error
	Get(ctx context.Context, id queue.ID) (queue.Entry, error)
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
	// Verdict asks the registry what has been decided about a record, also long
	// after its bytes are gone from here: Activated, Refused, Quarantined, or ""
	// for nothing yet.
	Verdict(ctx context.Context, id queue.ID) (DeliveryStage, error)
}

// Registry answers what citizens ask with what stands on a receipt. Its errors wrap
// ErrRegistry, or are *TooMany.
type Registry interface {
	// Standing is what has become of a receipt's record, whichever kiosk sent it, and of
	// the identity that it brought: StandingUntold if the registry tells nothing.
	Standing(ctx context.Context, r Receipt) (Standing, error)
	// Holder is the DID that a receipt's record brought, if it can be replaced or ended:
	// its identity was confirmed, and has not been replaced already. ErrUntold,
	// ErrNoHolder.
	Holder(ctx context.Context, r Receipt) (did string, err error)
	// Cancel gives in a cancel code. nil says that the code has come, and not
	// whether it is one of the registry's.
	Cancel(ctx context.Context, code secret.Text) error
}

// Receipt is one that somebody shows: the evidence on which the registry tells of its
// record.
type Receipt struct {
	Record queue.ID
	Text   []byte // as it was given to the citizen
	Kind   ReceiptKind
}

// DeliveryEvent is news about one record, or about the line when ID is zero.
type DeliveryEvent struct {
	ID      queue.ID
	Stage   DeliveryStage
	Receipt []byte // Receipted: the final receipt, verified
	Code    Code   // Trouble and Quarantined: why

	// Of Trouble with the line:
	Stopped   bool      // somebody has to act before it can go on
	Inspector string    // whose certificate was shown, for CodeInspected
	Next      time.Time // no attempt before it; zero when that is not known
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
