// Package receipt is what the citizen and the kiosk get back: the provisional
// receipt that the kiosk signs at once, the signed verdicts of registry and
// vault, and the final receipt, a proof that the record is in the public log.
//
// Invariants: a [Final] has been verified against a log key and a record id, a
// [Verified] against the keys that the caller trusts; their zero values are
// refused. Not its job: fetching, storing, consistency between checkpoints.
package receipt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	tlog "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/canonical"
	"enrollkiosk/registry/record"
)

// MaxSize is the largest receipt or statement but a report, in bytes.
const MaxSize = 16 << 10

// The typ of each signed statement.
const (
	ProvisionalType = "enrollkiosk-provisional+jws"
	VerdictType     = "enrollkiosk-verdict+jws"
	TimeType        = "enrollkiosk-time+jws"
	SignOnType      = "enrollkiosk-sign-on+jws"
)

// Errors of this package.
var (
	ErrForm      = errors.New("receipt-form: the receipt is malformed")
	ErrSignature = errors.New("receipt-signature: not signed by the expected key")
	ErrRecord    = errors.New("receipt-record: the receipt is for another record")
	ErrWitnesses = errors.New("receipt-witnesses: too few witnesses have cosigned the receipt's checkpoint")
	ErrInclusion = errors.New("receipt-inclusion: the record is not in the log that the checkpoint describes")
)

// Leaf is the log's entry for a record: SHA-256("enrollkiosk/leaf/v1" || blind
// || record id). The log's Merkle leaf hash is RFC 6962's over these 32 bytes.
func Leaf(blind, id [32]byte) [32]byte {
	b := append([]byte("enrollkiosk/leaf/v1"), blind[:]...)
	return sha256.Sum256(append(b, id[:]...))
}

// Build assembles a final receipt (C2SP tlog-proof): the leaf's index, its
// inclusion proof for the checkpoint's size, and the checkpoint as signed.
func Build(index uint64, hashes [][32]byte, checkpoint []byte, blind, id [32]byte) []byte {
	return tlog.TLogProof{
		Index:      index,
		Hashes:     hashes,
		Checkpoint: checkpoint,
		ExtraData:  append(blind[:], id[:]...),
	}.Marshal()
}

// Final is a verified final receipt; only Verify and VerifyUnder make it.
type Final struct{ f *final }

type final struct {
	bytes      []byte
	proof      tlog.TLogProof
	checkpoint checkpoint.Checkpoint
}

// Verify checks that the record id is in a log, under a checkpoint that as many
// witnesses have cosigned as are asked for. Errors wrap ErrForm, ErrSignature,
// ErrWitnesses, ErrRecord or ErrInclusion.
func Verify(receipt []byte, log checkpoint.Log, id [32]byte) (Final, error) {
	return verifyFinal(receipt, log.Open, id)
}

// VerifyUnder is Verify for a receipt under a checkpoint that is verified already:
// of many receipts under one, its signatures are looked at once.
func VerifyUnder(receipt []byte, c checkpoint.Checkpoint, id [32]byte) (Final, error) {
	own := c.Bytes()
	return verifyFinal(receipt, func(signed []byte) (checkpoint.Checkpoint, error) {
		if !c.Valid() || !bytes.Equal(signed, own) {
			return checkpoint.Checkpoint{}, checkpoint.ErrSignature
		}
		return c, nil
	}, id)
}

func verifyFinal(receipt []byte, open func(signed []byte) (checkpoint.Checkpoint, error), id [32]byte) (Final, error) {
	if len(receipt) > MaxSize {
		return Final{}, fmt.Errorf("%w: %d bytes", ErrForm, len(receipt))
	}
	f := &final{bytes: bytes.Clone(receipt)}
	if err := f.proof.Unmarshal(receipt); err != nil {
		return Final{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	// The reader above takes loose base64 and line ends; there is one form.
	if !bytes.Equal(f.proof.Marshal(), receipt) || len(f.proof.ExtraData) != 64 {
		return Final{}, ErrForm
	}
	var err error
	if f.checkpoint, err = open(f.proof.Checkpoint); err != nil {
		return Final{}, fmt.Errorf("%w: %w", reason(err), err)
	}
	if [32]byte(f.proof.ExtraData[32:]) != id {
		return Final{}, ErrRecord
	}
	leaf := Leaf([32]byte(f.proof.ExtraData[:32]), id)
	var path [][]byte
	for _, h := range f.proof.Hashes {
		path = append(path, h[:])
	}
	root := f.checkpoint.Root()
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, f.proof.Index, f.checkpoint.Size(), rfc6962.DefaultHasher.HashLeaf(leaf[:]), path, root[:]); err != nil {
		return Final{}, fmt.Errorf("%w: %w", ErrInclusion, err)
	}
	return Final{f}, nil
}

// reason is this package's error for one of a checkpoint.
func reason(err error) error {
	switch {
	case errors.Is(err, checkpoint.ErrSignature):
		return ErrSignature
	case errors.Is(err, checkpoint.ErrWitnesses):
		return ErrWitnesses
	}
	return ErrForm
}

// Valid is false for the zero value.
func (f Final) Valid() bool { return f.f != nil }

// Bytes is the receipt's text; nil for the zero value.
func (f Final) Bytes() []byte {
	if f.f == nil {
		return nil
	}
	return bytes.Clone(f.f.bytes)
}

// Index is the leaf's index, Size the number of leaves that the checkpoint covers.
func (f Final) Index() uint64 {
	if f.f == nil {
		return 0
	}
	return f.f.proof.Index
}

// Size is the number of leaves that the checkpoint covers.
func (f Final) Size() uint64 {
	if f.f == nil {
		return 0
	}
	return f.f.checkpoint.Size()
}

// Origin names the log.
func (f Final) Origin() string {
	if f.f == nil {
		return ""
	}
	return f.f.checkpoint.Origin()
}

// Checkpoint is the log's, verified, for consistency checks.
func (f Final) Checkpoint() checkpoint.Checkpoint {
	if f.f == nil {
		return checkpoint.Checkpoint{}
	}
	return f.f.checkpoint
}

// Provisional is what the kiosk states at once, also offline. It proves that the
// kiosk has taken the record on, not that the registry has it.
type Provisional struct {
	Record   [32]byte  `json:"record"`
	Audience string    `json:"audience"` // log origin
	Kiosk    string    `json:"kiosk"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	Claim    string    `json:"claim"` // code to collect credentials with later; no secret of the holder's
}

// Verdict is a decision about a record, or about the DID that it brought.
type Verdict struct {
	Record [32]byte  `json:"record"`
	DID    string    `json:"did,omitzero"` // not in rejections
	Status Status    `json:"status"`
	Code   string    `json:"code,omitzero"` // reason; absent when active
	Time   time.Time `json:"time"`
	// Supersedes is the SHA-256 of the vault's earlier verdict (its JWS) that this one
	// takes the place of: a person has looked at it.
	Supersedes [32]byte `json:"supersedes,omitzero"`
}

// Status of a verdict.
type Status string

const (
	Active   Status = "active"   // by the vault: the identity holds
	Refused  Status = "refused"  // by the vault
	Rejected Status = "rejected" // by the registry: the record itself is bad

	// What became of the DID of a record that was taken on, as of the verdict's time.
	// The registry says so, for it alone keeps what came after: replacements,
	// revocations, cancel codes. It can end what the vault began, and never begin it.
	Suspended Status = "suspended" // by the registry: ends soon, unless somebody lifts it
	Revoked   Status = "revoked"   // by the registry: ended
)

// byRegistry says whose decision a status is: the registry's, else the vault's.
func (s Status) byRegistry() bool { return s == Rejected || s == Suspended || s == Revoked }

// Time is the registry's clock, signed: a lower bound for a kiosk whose own
// clock has failed.
type Time struct {
	Audience string    `json:"audience"`
	Time     time.Time `json:"time"`
}

// SignOn is what an officer's card signs when the officer signs on, or agrees to
// what a document lacks: that card and PIN are at this kiosk now. It approves
// nothing: only a record's signature does.
type SignOn struct {
	Kiosk    string    `json:"kiosk"`
	Audience string    `json:"audience"` // log origin
	Nonce    [32]byte  `json:"nonce"`
	Time     time.Time `json:"time"`
}

// Statement is what this package signs and verifies as a compact JWS.
type Statement interface {
	Provisional | Verdict | Time | SignOn | Activity | Farewell | Renewal
}

// Verified is a statement whose signature has been checked; only the Verify
// functions make it.
type Verified[T Statement] struct {
	claims T
	bytes  []byte
}

// Valid is false for the zero value.
func (v Verified[T]) Valid() bool { return v.bytes != nil }

// Claims is what was signed.
func (v Verified[T]) Claims() T { return v.claims }

// Bytes is the compact JWS.
func (v Verified[T]) Bytes() []byte { return bytes.Clone(v.bytes) }

// SignProvisional signs with the kiosk's record key.
func SignProvisional(ctx context.Context, p Provisional, kiosk record.Signer) ([]byte, error) {
	return sign(ctx, ProvisionalType, p, kiosk)
}

// VerifyProvisional checks the kiosk's signature; accept says which key is the
// kiosk's (record.AcceptAny makes one from a list).
func VerifyProvisional(b []byte, accept func(crypto.PublicKey) bool) (Verified[Provisional], error) {
	return verify[Provisional](b, ProvisionalType, accept)
}

// SignVerdict signs with the registry's or the vault's verdict key.
func SignVerdict(ctx context.Context, v Verdict, by record.Signer) ([]byte, error) {
	if !v.wellFormed() {
		return nil, fmt.Errorf("%w: verdict", ErrForm)
	}
	return sign(ctx, VerdictType, v, by)
}

func (v Verdict) wellFormed() bool {
	switch v.Status {
	case Active:
		return v.DID != "" && v.Code == ""
	case Refused:
		return v.Code != ""
	case Rejected:
		return v.Code != "" && v.DID == "" && v.Supersedes == [32]byte{}
	case Suspended, Revoked:
		return v.Code != "" && v.DID != "" && v.Supersedes == [32]byte{}
	}
	return false
}

// VerifyVerdict checks a verdict about the record id. A rejection, and what became
// of a DID later, must be signed by a registry key; whether an identity holds, by a
// vault key.
func VerifyVerdict(b []byte, registry, vault []record.JWK, id [32]byte) (Verified[Verdict], error) {
	byRegistry, byVault := record.AcceptAny(registry...), record.AcceptAny(vault...)
	var signer crypto.PublicKey
	v, err := verify[Verdict](b, VerdictType, func(pub crypto.PublicKey) bool {
		signer = pub
		return byRegistry(pub) || byVault(pub)
	})
	switch {
	case err != nil:
		return Verified[Verdict]{}, err
	case !v.claims.wellFormed():
		return Verified[Verdict]{}, fmt.Errorf("%w: verdict", ErrForm)
	case v.claims.Status.byRegistry() && !byRegistry(signer), !v.claims.Status.byRegistry() && !byVault(signer):
		return Verified[Verdict]{}, fmt.Errorf("%w: not this key's decision", ErrSignature)
	case v.claims.Record != id:
		return Verified[Verdict]{}, ErrRecord
	}
	return v, nil
}

// SignTime signs with the registry's verdict key.
func SignTime(ctx context.Context, t Time, registry record.Signer) ([]byte, error) {
	return sign(ctx, TimeType, t, registry)
}

// VerifyTime checks a registry's time; audience is the log's origin.
func VerifyTime(b []byte, registry []record.JWK, audience string) (Verified[Time], error) {
	v, err := verify[Time](b, TimeType, record.AcceptAny(registry...))
	if err == nil && v.claims.Audience != audience {
		return Verified[Time]{}, fmt.Errorf("%w: another registry's time", ErrSignature)
	}
	return v, err
}

// SignSignOn signs with the key of an officer's card.
func SignSignOn(ctx context.Context, s SignOn, card record.Signer) ([]byte, error) {
	return sign(ctx, SignOnType, s, card)
}

// VerifySignOn checks the signature of an officer's card; accept says which key
// is that card's.
func VerifySignOn(b []byte, accept func(crypto.PublicKey) bool) (Verified[SignOn], error) {
	return verify[SignOn](b, SignOnType, accept)
}

func sign[T Statement](ctx context.Context, typ string, claims T, by record.Signer) ([]byte, error) {
	payload := canonical.Marshal(claims)
	if err := canonical.Unmarshal(payload, new(T)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return record.SignCompact(ctx, typ, payload, by)
}

func verify[T Statement](b []byte, typ string, accept func(crypto.PublicKey) bool) (Verified[T], error) {
	return verifyLimited[T](b, typ, MaxSize, accept)
}

func verifyLimited[T Statement](b []byte, typ string, limit int, accept func(crypto.PublicKey) bool) (Verified[T], error) {
	if len(b) > limit {
		return Verified[T]{}, fmt.Errorf("%w: %d bytes", ErrForm, len(b))
	}
	payload, err := record.VerifyCompact(b, typ, accept)
	if errors.Is(err, record.ErrCanonical) {
		return Verified[T]{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err != nil {
		return Verified[T]{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	v := Verified[T]{bytes: bytes.Clone(b)}
	if err := canonical.Unmarshal(payload, &v.claims); err != nil {
		return Verified[T]{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return v, nil
}
