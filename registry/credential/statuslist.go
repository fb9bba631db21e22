package credential

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"time"
)

// StatusListMediaType is the Content-Type of a status list token.
const StatusListMediaType = "application/statuslist+jwt"

// StatusList holds one status for each index (Token Status List 4.1): status i of
// one bit is (b[i/8] >> i%8) & 1. Ours have one bit: 0 is valid, 1 is revoked.
type StatusList struct {
	bits uint64 // of a status: 1, 2, 4 or 8
	b    []byte
}

// NewStatusList makes a list of size statuses of one bit, all valid. size is
// rounded up to a multiple of 8.
func NewStatusList(size uint64) StatusList { return StatusList{1, make([]byte, (size+7)/8)} }

// Len is the number of statuses.
func (l StatusList) Len() uint64 {
	if l.bits == 0 {
		return 0
	}
	return uint64(len(l.b)) * 8 / l.bits
}

// Get is the status at index. One out of range is refused: it must not read as
// valid.
func (l StatusList) Get(index uint64) (uint8, error) {
	if index >= l.Len() {
		return 0, refuse(ErrStatusList, "index %d of %d", index, l.Len())
	}
	bit := index * l.bits
	return l.b[bit/8] >> (bit % 8) & (1<<l.bits - 1), nil
}

// Revoke sets the status at index to 1.
func (l StatusList) Revoke(index uint64) error {
	if index >= l.Len() {
		return refuse(ErrStatusList, "index %d of %d", index, l.Len())
	}
	l.b[index*l.bits/8] |= 1 << (index * l.bits % 8)
	return nil
}

// Bytes are the list's, uncompressed; the caller may keep them.
func (l StatusList) Bytes() []byte { return bytes.Clone(l.b) }

// StatusListOf is the list of one-bit statuses in b, as Bytes gave it.
func StatusListOf(b []byte) StatusList { return StatusList{1, bytes.Clone(b)} }

type statusListWire struct {
	Bits uint64 `json:"bits"`
	List string `json:"lst"`
}

func (l StatusList) wire() statusListWire {
	var b bytes.Buffer
	w, _ := zlib.NewWriterLevel(&b, zlib.BestCompression) // writing to memory does not fail
	w.Write(l.b)
	w.Close()
	return statusListWire{l.bits, b64.EncodeToString(b.Bytes())}
}

// parseStatusList reads {bits, lst}, inflating at most max bytes: zlib makes a
// thousand times as much of its input.
func parseStatusList(o Object, max int) (StatusList, error) {
	bits, _ := o.Whole("bits")
	if bits != 1 && bits != 2 && bits != 4 && bits != 8 {
		return StatusList{}, refuse(ErrStatusList, "%d bits", bits)
	}
	lst, _ := o.Text("lst")
	deflated, err := decode(lst)
	if err != nil {
		return StatusList{}, fmt.Errorf("%w: %w", ErrStatusList, err)
	}
	in := bytes.NewReader(deflated)
	r, err := zlib.NewReader(in)
	if err != nil {
		return StatusList{}, fmt.Errorf("%w: %w", ErrStatusList, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(max)+1))
	if err != nil {
		return StatusList{}, fmt.Errorf("%w: %w", ErrStatusList, err)
	}
	if len(b) > max {
		return StatusList{}, refuse(ErrSize, "a status list of more than %d bytes", max)
	}
	if in.Len() > 0 {
		return StatusList{}, refuse(ErrStatusList, "bytes after the list")
	}
	return StatusList{uint64(bits), b}, nil
}

// StatusToken is a status list as it is published.
type StatusToken struct {
	URI      string // where it is served: sub
	IssuedAt time.Time
	Expires  time.Time
	TTL      time.Duration // how long it may be kept before the next look
	List     StatusList
}

type statusPayload struct {
	Subject  string         `json:"sub"`
	IssuedAt int64          `json:"iat"`
	Expires  int64          `json:"exp"`
	TTL      int64          `json:"ttl"` // seconds
	List     statusListWire `json:"status_list"`
}

// SignStatusList makes a status list token (Token Status List 5.1).
func (i Issuer) SignStatusList(t StatusToken) (string, error) {
	return sign(header{Type: statusListType, Chain: chain(i.Chain)},
		marshal(statusPayload{t.URI, t.IssuedAt.Unix(), t.Expires.Unix(), int64(t.TTL / time.Second), t.List.wire()}), i.Key)
}

// ExpectStatusList is the list that was asked for.
type ExpectStatusList struct {
	Authority
	URI      string
	MaxBytes int // of the list, uncompressed
	Now      time.Time
}

// Longest times that a status list token is believed, whatever it says of itself
// (Token Status List 11.5).
const (
	MaxStatusAge = 24 * time.Hour
	MaxStatusTTL = time.Hour
	MinStatusTTL = time.Minute
)

// VerifiedStatusList is a list that its issuer signed; only [VerifyStatusList]
// makes it.
type VerifiedStatusList struct{ t *StatusToken }

// VerifyStatusList checks a status list token (Token Status List 8.3).
func VerifyStatusList(token string, e ExpectStatusList) (VerifiedStatusList, error) {
	if e.Issuer == "" || e.URI == "" || e.MaxBytes <= 0 || e.Now.IsZero() {
		return VerifiedStatusList{}, errZero
	}
	if len(token) > 2*e.MaxBytes+MaxRequest { // what does not deflate grows a little, base64 by a third
		return VerifiedStatusList{}, refuse(ErrSize, "%d bytes", len(token))
	}
	u, err := parseJWS(token, statusListType)
	if err != nil {
		return VerifiedStatusList{}, err
	}
	leaf, err := u.leaf(e.Roots, e.Now)
	if err != nil {
		return VerifiedStatusList{}, err
	}
	if !names(leaf, e.Issuer) {
		return VerifiedStatusList{}, ErrIssuer
	}
	pub, err := keyOf(leaf)
	if err != nil {
		return VerifiedStatusList{}, err
	}
	p, err := u.verify(pub, credentialDepth)
	if err != nil {
		return VerifiedStatusList{}, err
	}
	if sub, _ := p.Text("sub"); sub != e.URI {
		return VerifiedStatusList{}, refuse(ErrStatusList, "another list than asked for")
	}
	iat, okIat := p.Whole("iat")
	exp, okExp := p.Whole("exp")
	ttl, okTTL := p.Whole("ttl")
	if !okIat || !okExp || !okTTL {
		return VerifiedStatusList{}, refuse(ErrStatusList, "no iat, exp or ttl")
	}
	t := StatusToken{URI: e.URI, IssuedAt: time.Unix(iat, 0).UTC(), Expires: time.Unix(exp, 0).UTC()}
	if t.IssuedAt.After(e.Now.Add(Skew)) {
		return VerifiedStatusList{}, ErrTime
	}
	if latest := t.IssuedAt.Add(MaxStatusAge); t.Expires.After(latest) {
		t.Expires = latest
	}
	if !t.Expires.After(e.Now) {
		return VerifiedStatusList{}, ErrExpired
	}
	t.TTL = MaxStatusTTL
	if ttl < int64(MaxStatusTTL/time.Second) {
		t.TTL = max(time.Duration(ttl)*time.Second, MinStatusTTL)
	}
	list, _ := p.Object("status_list")
	if t.List, err = parseStatusList(list, e.MaxBytes); err != nil {
		return VerifiedStatusList{}, err
	}
	return VerifiedStatusList{&t}, nil
}

// Valid is false for the zero value.
func (l VerifiedStatusList) Valid() bool { return l.t != nil }

// URI names the list.
func (l VerifiedStatusList) URI() string { return l.t.URI }

// Expires is when the list is not believed any more; Refresh, when to look again.
func (l VerifiedStatusList) Expires() time.Time { return l.t.Expires }
func (l VerifiedStatusList) Refresh() time.Time { return l.t.IssuedAt.Add(l.t.TTL) }

// Check looks up a credential: nil if it is valid, [ErrStatus] if it is revoked, by
// any status but 0, [ErrStatusList] if it is not of this list, [ErrExpired] if the
// list is too old at the time now.
func (l VerifiedStatusList) Check(s StatusRef, now time.Time) error {
	if l.t == nil || now.IsZero() {
		return errZero
	}
	if s.URI != l.t.URI {
		return refuse(ErrStatusList, "another list")
	}
	if !l.t.Expires.After(now) {
		return refuse(ErrStatusList, "%w", ErrExpired)
	}
	v, err := l.t.List.Get(s.Index)
	if err != nil {
		return err
	}
	if v != 0 {
		return ErrStatus
	}
	return nil
}
