package registry

import (
	"context"
	"errors"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/issuer"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// store is what the registry remembers. There are two: one bbolt file with files
// beside it, for one process (embedded), and a PostgreSQL database for as many
// as like (postgresStore). Every method is one transaction that is durable when
// it returns nil; all may be called concurrently.
type store interface {
	intake
	outbox
	openings
	inventory
	chains
	cancellations
	register
	reports
	sessions
	credentials
	// Lead runs f, if no other process has a role, as the only one that has it, and
	// returns f's error; else it returns nil at once. f's context ends with ctx, and
	// when the role is lost. The term numbers those who had the role.
	Lead(ctx context.Context, r Role, f func(ctx context.Context, term uint64) error) error
	Close() error
}

// intake is the store as the front sees it.
type intake interface {
	// Add stores records with their places in the log's and the vault's outboxes, in
	// the given order, each as if it came alone. What came of them is returned in
	// the same order. A record that is there already is left as it is.
	Add(ctx context.Context, entries []entry) ([]added, error)
	// Status is what is known of records that sender sent. A record that is not in
	// it is not held.
	Status(ctx context.Context, sender string, ids ...[32]byte) (map[[32]byte]status, error)
	// Held is what is known of a record that was taken on, whoever sent it; errNotHeld
	// if there is none.
	Held(ctx context.Context, id [32]byte) (status, error)
	// Reject keeps rejections of what sender sent and returns those in force, which
	// are the first. It never touches a record that is held. The places of those
	// that the kiosk has signed are taken from then on, forks are kept.
	Reject(ctx context.Context, sender string, rejections map[[32]byte]rejection) (map[[32]byte]decision, error)
	// Brought is the id of the record that brought a DID; errHolder if there is none,
	// or the DID has ended, errSuspended.
	Brought(ctx context.Context, did string) ([32]byte, error)
	// KeepPolicy remembers a policy for good, and since when; the first time stays.
	// Policies returns all.
	KeepPolicy(ctx context.Context, digest [32]byte, signed []byte, since time.Time) error
	Policies(ctx context.Context) ([]keptPolicy, error)
	// Backlog is what waits for the log and the vault.
	Backlog(ctx context.Context) (backlog, error)
	// Gaps is the number of sequence numbers below a kiosk's highest of which no
	// record has come, counted from the number after first.
	Gaps(ctx context.Context, kiosk string, first uint64) (uint64, error)
}

// keptPolicy is a policy that was or is in force here.
type keptPolicy struct {
	signed []byte
	since  time.Time
}

// chains is the store as whoever looks at a kiosk sees it.
type chains interface {
	// Links are what has places in a kiosk's chain, after a number, in order.
	Links(ctx context.Context, kiosk string, after uint64, limit int) ([]numbered, error)
	// Forks are the newest of what contradicts a kiosk's chain, at most limit, the
	// oldest first.
	Forks(ctx context.Context, kiosk string, limit int) ([]Fork, error)
	// Heard remembers when a kiosk was heard last, LastHeard says it; zero: never.
	Heard(ctx context.Context, kiosk string, at time.Time) error
	LastHeard(ctx context.Context, kiosk string) (time.Time, error)
}

// numbered is a link with its number.
type numbered struct {
	number uint64
	link
}

// cancellations is the store as cancel codes see it.
type cancellations interface {
	// Cancel suspends the DID of a code's hash; done says whether it did. Whether or
	// not there is such a code, it is one transaction that writes.
	Cancel(ctx context.Context, hash [32]byte, now, due time.Time) (c Cancellation, done bool, err error)
	// Cancellations lists those that wait for a decision, or all, oldest first.
	Cancellations(ctx context.Context, all bool) ([]Cancellation, error)
	// Cancellation is that of a DID; ErrNoCancellation if there is none.
	Cancellation(ctx context.Context, did string) (Cancellation, error)
	// ResolveCancellation ends a suspension as a person has decided: CancelLifted or
	// CancelRevoked. ErrNoCancellation, ErrCancelResolved.
	ResolveCancellation(ctx context.Context, did string, state CancelState, d Resolution) (Cancellation, error)
	// RevokeDue revokes what is suspended and due, at most limit, and returns it.
	RevokeDue(ctx context.Context, now time.Time, limit int) ([]Cancellation, error)
}

// outbox is the store as the log role sees it.
type outbox interface {
	// Unlogged lists records that have no receipt, at most limit.
	Unlogged(ctx context.Context, limit int) ([]leaf, error)
	// Scanned is the log's size up to which every leaf is accounted for.
	Scanned(ctx context.Context) (uint64, error)
	// Logged keeps the receipts of records and the new Scanned. A receipt that is
	// there already stays. errDeposed if another process has had the role since term.
	Logged(ctx context.Context, term uint64, receipts map[[32]byte][]byte, scanned uint64) error
}

// openings is the store as the vault role sees it.
type openings interface {
	// Unopened lists records without the vault's verdict, at most limit, after the
	// given one, or from the first, in an order that stays.
	Unopened(ctx context.Context, after [32]byte, limit int) ([][32]byte, error)
	// Submission is a record as it was sent; errNotHeld if there is none.
	Submission(ctx context.Context, id [32]byte) ([]byte, error)
	// Decided keeps the vault's verdict; the first stays. refused is nil, or the
	// refused record's payload: what it did to DIDs is undone.
	Decided(ctx context.Context, id [32]byte, d decision, refused *record.Payload) error
	// Judged lists records that have the vault's verdict, at most limit, after a number,
	// in the order in which they were taken on.
	Judged(ctx context.Context, after uint64, limit int) ([]judged, error)
	Policies(ctx context.Context) ([]keptPolicy, error)
	// Outcomes is the number of the vault's outcome that was seen last.
	Outcomes(ctx context.Context) (uint64, error)
	// Redecided remembers that an outcome was seen and, if the verdict that it
	// supersedes is the one that is kept, follows it: applied.
	Redecided(ctx context.Context, o outcome) (applied bool, err error)
}

// judged is a record's verdict that is in force, with the number of the record's
// arrival.
type judged struct {
	number  uint64
	id      [32]byte
	verdict string
}

// outcome is a verdict of the vault that takes the place of an earlier one.
type outcome struct {
	number     uint64
	record     [32]byte
	supersedes [32]byte // SHA-256 of the earlier verdict
	decision   decision
}

// register is the store as kiosks' standing sees it. Ids are valid ones.
type register interface {
	// Kiosk is a registered kiosk; ErrUnknownKiosk if there is none.
	Kiosk(ctx context.Context, id string) (Kiosk, error)
	// Kiosks is all of them, by id.
	Kiosks(ctx context.Context) ([]Kiosk, error)
	// Provision is a kiosk's code; ErrUnknownKiosk if it was given none.
	Provision(ctx context.Context, id string) (Provision, error)
	// Provisions is all codes, by their kiosks' ids.
	Provisions(ctx context.Context) ([]Provision, error)
	// ChangeKiosk runs f on what is kept of an id while nobody else changes it, and
	// keeps what f leaves. f may run again. An error of f changes nothing.
	ChangeKiosk(ctx context.Context, id string, f func(*standing) error) error
}

// standing is what the register keeps of a kiosk's id. Either may be nil.
type standing struct {
	kiosk     *Kiosk
	provision *Provision
}

// reports is the store as kiosks' reports see it.
type reports interface {
	// Activities is what every kiosk reported, by id.
	Activities(ctx context.Context) ([]KioskActivity, error)
	// ChangeActivity runs f on a kiosk's activity while nobody else changes it or the
	// counts of about's officers, and keeps what f leaves. f may run again. others are
	// the other kiosks' counts of the days and officers in about.
	ChangeActivity(ctx context.Context, kiosk string, about []receipt.ActivityEntry, f func(own *KioskActivity, others []tally)) error
}

// tally is one officer's day at several kiosks.
type tally struct{ reads, enrollments, kiosks uint64 }

// sessions is the store as provisioning sees it: it keeps them while they last.
type sessions interface {
	// AddSession keeps a new session. Of more than maxSessions of one kiosk the
	// oldest goes.
	AddSession(ctx context.Context, s session, now time.Time) error
	// ChangeSession runs f on a session while nobody else changes it, keeps what f
	// leaves, and returns that. f may run again; its error changes nothing. errSessionOver
	// if there is no such session, or it has ended.
	ChangeSession(ctx context.Context, id api.ID, now time.Time, f func(*session) error) (session, error)
}

// credentials is the store as the issuer of credentials sees it.
type credentials interface {
	Issuer() issuer.Store
}

// entry is an accepted record on its way into the store.
type entry struct {
	submission record.Submission
	sender     string    // kiosk that sent it; empty: any kiosk may ask for it
	received   time.Time //
	starts     []uint64  // the kiosk's counter before its first record, and wherever it began again
	number     uint64    // its place in the kiosk's chain; 0 where nothing proves that the kiosk signed it
	link       link      //
	approval   approval  // of an enrollment; zero for other records
	quota      uint64    // of the officer's approvals on that day; 0: none
	newKey     [32]byte  // thumbprint of a key that must be new; zero if none is
	personal   bool      // the vault must open it
}

// approval is one officer's day.
type approval struct {
	officer receipt.Officer
	day     receipt.Day
}

// added is what came of an entry. It is zero for a record that is there already.
type added struct {
	refused  error  // for good: errFork, errChain, errKeyTaken, errHolder or errSuspended; nothing was stored
	gap      bool   // the kiosk's sequence number before this one, if there is one above first, has not come
	approved uint64 // enrollments that the officer approved on this day, this one included
}

type leaf struct{ id, blind [32]byte }

// backlog is how many records wait, and since when.
type backlog struct{ unlogged, unopened queueDepth }

type queueDepth struct {
	count  uint64
	oldest time.Time // received; zero if none waits
}

// decision is a signed verdict with what it says: rejected by the registry,
// active or refused by the vault.
type decision struct {
	Status  api.Status `json:"status"`
	Code    string     `json:"code,omitempty"`
	Verdict string     `json:"verdict"` // compact JWS
}

// status is what is known of a record.
type status struct {
	decision decision // zero while there is none
	receipt  []byte   // nil until logged
	did      string   // that it is about; empty: none
	holder   holder   // what became of that
}

var (
	errKeyTaken    = errors.New("another record has this key")
	errNotHeld     = errors.New("no such record")
	errDeposed     = errors.New("another process has taken this role on")
	errSessionOver = errors.New("no such session of provisioning")
)

// submission joins a record with its attestation, nil if there is none, as it was
// sent.
func submission(jws, attestation []byte) []byte {
	out := []byte("{")
	if attestation != nil {
		out = append(append(append(out, `"attestation":`...), attestation...), ',')
	}
	return append(append(append(out, `"record":`...), jws...), '}')
}
