// Package api is the HTTP contract between kiosk, registry and vault in Go
// types; docs/openapi.yaml is the same contract for everybody else.
//
// It holds paths, limits, message types and strict decoding. No server and no
// client. What a message carries (submissions, verdicts, receipts, policies) is
// verified by the packages those belong to: nothing here is proof of anything.
package api

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"reflect"
	"slices"
	"strings"
	"sync"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// Paths. Records and activity need mutual TLS 1.3; the kiosk is known by its client
// certificate. The rest is public.
const (
	PathRecords    = "/v1/records"        // POST; GET with /{id}
	PathStatus     = "/v1/records/status" // POST: of many records at once
	PathReceipts   = "/v1/receipts"       // POST: of the record of a receipt, whichever kiosk sent it
	PathActivity   = "/v1/activity"       // POST: receipt.SignActivity's JWS; answered with the time
	PathRenewal    = "/v1/certificates"   // POST: receipt.SignRenewal's JWS; answered with KioskCertificates
	PathPolicy     = "/v1/policy"
	PathTime       = "/v1/time"           // the registry's signed time, application/jose
	PathLog        = "/v1/log/"           // C2SP tlog-tiles
	PathCheckpoint = "/v1/log/checkpoint" //
	PathLive       = "/healthz"
	PathReady      = "/readyz"
	PathOpen       = "/v1/open" // of the vault

	PathCancellations = "/v1/cancellations" // POST, public
	PathOutcomes      = "/v1/outcomes"      // of the vault
	PathLevel         = "/v1/level"         // of the vault

	PathTokenUnblock = "/v1/tokens/unblock" // POST: record.Unblock's JWS; answered with the vault's
	PathUnblock      = "/v1/unblock"        // of the vault
	PathClaims       = "/v1/claims"         // of the vault: what credentials may say
	PathPlaces       = "/v1/places"         // of the vault: which credentials are to be revoked

	// A new kiosk has no client certificate yet: it is known by its code, then by
	// its TPM.
	PathProvision      = "/v1/provision" // GET with /{session}
	PathProvisionBegin = "/v1/provision/begin"
	PathProvisionProve = "/v1/provision/prove"
)

// Media types.
const (
	MediaJSON    = "application/json"
	MediaProblem = "application/problem+json"
	MediaJOSE    = "application/jose"
	MediaJOSEJS  = "application/jose+json"
	MediaText    = "text/plain; charset=utf-8"
)

// Gzip is the one content coding (RFC 9110 section 8.4) that the body of a POST to
// PathRecords may have: submissions are base64 in base64, and it takes away half.
// The limits hold before and after decoding.
const Gzip = "gzip"

// Limits. A batch whose submissions together hold MaxBatchData fits MaxBody.
const (
	MaxItems     = 64
	MaxBody      = 1 << 20
	MaxBatchData = 700 << 10
)

// ErrForm says that a message is not of this contract; a proxy's login page is
// the usual reason.
var ErrForm = errors.New("api-form: not a message of this contract")

// ErrSize says that a message is larger than its limit.
var ErrSize = errors.New("api-size: message too large")

// ID is a record id; in JSON and paths 64 lower-case hexadecimal digits.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

func (id *ID) UnmarshalText(b []byte) error {
	var raw ID
	if n, err := hex.Decode(raw[:], b[:min(len(b), 64)]); err != nil || n != 32 || raw.String() != string(b) {
		return fmt.Errorf("%w: record id", ErrForm)
	}
	*id = raw
	return nil
}

// ParseID reads an id from a path.
func ParseID(s string) (id ID, err error) {
	err = id.UnmarshalText([]byte(s))
	return id, err
}

// Data is bytes; in JSON base64url without padding.
type Data []byte

func (d Data) MarshalText() ([]byte, error) { return base64.RawURLEncoding.AppendEncode(nil, d), nil }

func (d *Data) UnmarshalText(b []byte) error {
	out, err := base64.RawURLEncoding.Strict().AppendDecode(nil, b)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(out)) != len(b) {
		return fmt.Errorf("%w: base64url", ErrForm)
	}
	*d = out
	return nil
}

// Status of a record. Accepted means logged: the receipt can be fetched.
type Status string

const (
	Pending  Status = "pending"  // taken on; ask again for verdict and receipt
	Accepted Status = "accepted" // POST: taken on earlier, receipt ready
	Rejected Status = "rejected" // bad; the signed verdict says why
	Retry    Status = "retry"    // not looked at; send again after RetryAfter
	Active   Status = "active"   // GET: the vault's verdict
	Refused  Status = "refused"  // GET: the vault's verdict
	Unknown  Status = "unknown"  // StatusResult: no such record of this kiosk; send it again
)

// Batch is the body of POST /v1/records.
type Batch struct {
	Items []Item `json:"items"`
}

// Item is one submission under its record id.
type Item struct {
	ID         ID   `json:"id"`
	Submission Data `json:"submission"` // record.Submission.Bytes
}

// Check holds the limits and refuses an id given twice.
func (b Batch) Check() error {
	if len(b.Items) == 0 || len(b.Items) > MaxItems {
		return fmt.Errorf("%w: %d items", ErrForm, len(b.Items))
	}
	seen := map[ID]bool{}
	for _, i := range b.Items {
		if seen[i.ID] || len(i.Submission) == 0 || len(i.Submission) > record.MaxSubmission {
			return fmt.Errorf("%w: item %s", ErrForm, i.ID)
		}
		seen[i.ID] = true
	}
	return nil
}

// BatchResult answers a Batch with one verdict for each item, in any order.
type BatchResult struct {
	Verdicts []ItemVerdict `json:"verdicts"`
	Time     string        `json:"time,omitempty"` // receipt.SignTime's JWS
	// Policy is the digest of the policy that the registry hands out now: who has
	// another one fetches it. It is not signed, for the policy is.
	Policy ID `json:"policy,omitzero"`
}

// ItemVerdict is what the registry says about one item.
type ItemVerdict struct {
	ID         ID     `json:"id"`
	Status     Status `json:"status"`                // pending, accepted, rejected or retry
	Code       string `json:"code,omitempty"`        // reason of rejected and retry
	Verdict    string `json:"verdict,omitempty"`     // receipt.SignVerdict's JWS; always with rejected
	RetryAfter int    `json:"retry_after,omitempty"` // seconds; only with retry
}

// Check holds the form of every verdict.
func (r BatchResult) Check() error {
	if len(r.Verdicts) > MaxItems {
		return fmt.Errorf("%w: %d verdicts", ErrForm, len(r.Verdicts))
	}
	seen := map[ID]bool{}
	for _, v := range r.Verdicts {
		ok := !seen[v.ID] && len(v.Verdict) <= receipt.MaxSize && v.RetryAfter >= 0
		switch v.Status {
		case Pending, Accepted:
			ok = ok && v.RetryAfter == 0 && v.Verdict == ""
		case Rejected:
			ok = ok && v.RetryAfter == 0 && v.Verdict != "" && v.Code != ""
		case Retry:
			ok = ok && v.Verdict == ""
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("%w: verdict on %s", ErrForm, v.ID)
		}
		seen[v.ID] = true
	}
	return nil
}

// Answers checks that r has exactly one verdict for each item of b.
func (r BatchResult) Answers(b Batch) error {
	if err := r.Check(); err != nil {
		return err
	}
	got := map[ID]bool{}
	for _, v := range r.Verdicts {
		got[v.ID] = true
	}
	for _, i := range b.Items {
		if !got[i.ID] {
			return fmt.Errorf("%w: no verdict on %s", ErrForm, i.ID)
		}
	}
	if len(got) != len(b.Items) {
		return fmt.Errorf("%w: verdicts on items not sent", ErrForm)
	}
	return nil
}

// RecordStatus answers GET /v1/records/{id}.
type RecordStatus struct {
	ID      ID     `json:"id"`
	Status  Status `json:"status"`            // pending, active, refused or rejected
	Code    string `json:"code,omitempty"`    //
	Verdict string `json:"verdict,omitempty"` // the vault's or registry's JWS; absent while pending
	Receipt string `json:"receipt,omitempty"` // tlog-proof text, when logged
	// Standing is the registry's JWS (receipt.Verdict, suspended or revoked) about the
	// DID that the record brought; absent while it is in good standing. The vault's
	// verdict stays beside it: whether the identity held, and whether the key still
	// counts, are two questions.
	Standing string `json:"standing,omitempty"`
}

// Check holds the form.
func (s RecordStatus) Check() error {
	ok := len(s.Verdict) <= receipt.MaxSize && len(s.Receipt) <= receipt.MaxSize && len(s.Standing) <= receipt.MaxSize
	switch s.Status {
	case Pending:
		ok = ok && s.Verdict == ""
	case Active, Refused:
		ok = ok && s.Verdict != ""
	case Rejected:
		ok = ok && s.Verdict != "" && s.Receipt == "" && s.Standing == ""
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("%w: status of %s", ErrForm, s.ID)
	}
	return nil
}

// StatusQuery is the body of POST /v1/records/status.
type StatusQuery struct {
	IDs []ID `json:"ids"`
}

// Check holds the limits and refuses an id given twice.
func (q StatusQuery) Check() error {
	if len(q.IDs) == 0 || len(q.IDs) > MaxItems {
		return fmt.Errorf("%w: %d ids", ErrForm, len(q.IDs))
	}
	seen := map[ID]bool{}
	for _, id := range q.IDs {
		if seen[id] {
			return fmt.Errorf("%w: id %s twice", ErrForm, id)
		}
		seen[id] = true
	}
	return nil
}

// StatusResult answers a StatusQuery, in any order. What does not fit MaxBody is
// left out, to be asked for again; at least one record is in.
type StatusResult struct {
	Statuses []RecordStatus `json:"statuses"`
}

// Check holds the form of every status.
func (r StatusResult) Check() error {
	if len(r.Statuses) == 0 || len(r.Statuses) > MaxItems {
		return fmt.Errorf("%w: %d statuses", ErrForm, len(r.Statuses))
	}
	seen := map[ID]bool{}
	for _, s := range r.Statuses {
		if seen[s.ID] {
			return fmt.Errorf("%w: status of %s twice", ErrForm, s.ID)
		}
		seen[s.ID] = true
		if s.Status == Unknown {
			if s.Code != "" || s.Verdict != "" || s.Receipt != "" || s.Standing != "" {
				return fmt.Errorf("%w: status of %s", ErrForm, s.ID)
			}
		} else if err := s.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Answers checks that r is about nothing that q does not ask for.
func (r StatusResult) Answers(q StatusQuery) error {
	if err := r.Check(); err != nil {
		return err
	}
	for _, s := range r.Statuses {
		if !slices.Contains(q.IDs, s.ID) {
			return fmt.Errorf("%w: status of %s was not asked for", ErrForm, s.ID)
		}
	}
	return nil
}

// ReceiptQuery is the body of POST /v1/receipts. It is answered with RecordStatus,
// without the receipt, or with CodeReceipt.
type ReceiptQuery struct {
	Receipt string `json:"receipt"` // final or provisional, as it was given to the citizen
}

// MaxReceiptQuery is more than a ReceiptQuery takes, in bytes.
const MaxReceiptQuery = 2 * receipt.MaxSize

// Check holds the limits.
func (q ReceiptQuery) Check() error {
	if q.Receipt == "" || len(q.Receipt) > receipt.MaxSize {
		return fmt.Errorf("%w: receipt of %d bytes", ErrForm, len(q.Receipt))
	}
	return nil
}

// OpenRequest is the body of the vault's POST /v1/open.
type OpenRequest struct {
	Record Data `json:"record"` // record.Submission.Bytes
}

// Check holds the limits.
func (r OpenRequest) Check() error {
	if len(r.Record) == 0 || len(r.Record) > record.MaxSubmission {
		return fmt.Errorf("%w: record of %d bytes", ErrForm, len(r.Record))
	}
	return nil
}

// OpenResult answers an OpenRequest.
type OpenResult struct {
	Verdict string `json:"verdict"` // receipt.SignVerdict's JWS by the vault's key
}

// Check holds the form.
func (r OpenResult) Check() error {
	if r.Verdict == "" || len(r.Verdict) > receipt.MaxSize {
		return fmt.Errorf("%w: verdict", ErrForm)
	}
	return nil
}

// Problem is an error answer (RFC 9457). It holds no personal data.
type Problem struct {
	Type       string `json:"type"`                  // "urn:enrollkiosk:problem:" + Code
	Title      string `json:"title"`                 //
	Status     int    `json:"status"`                // the HTTP status
	Code       string `json:"code"`                  // one of the Code constants
	RetryAfter int    `json:"retry_after,omitempty"` // seconds
	Refused    string `json:"check,omitempty"`       // of provision-attestation and provision-ek: which check refused
}

// Codes of a Problem, with their HTTP status.
const (
	CodeBadRequest  = "api-form"        // 400
	CodeNoKiosk     = "api-kiosk"       // 403: no client certificate, or not a kiosk in good standing
	CodeNotFound    = "api-not-found"   // 404
	CodeReceipt     = "api-receipt"     // 404: nothing is told about this receipt; why is not told either
	CodeMethod      = "api-method"      // 405
	CodeTooLarge    = "api-size"        // 413: halve the batch
	CodeMedia       = "api-media"       // 415
	CodeTooMany     = "api-too-many"    // 429
	CodeInternal    = "api-internal"    // 500
	CodeUnavailable = "api-unavailable" // 503
	CodeRenewal     = "api-renewal"     // 403: a request for certificates that the kiosk's record key did not sign for this connection
	CodeCancelCode  = "api-cancel-code" // 400: mistyped, whatever it is the code of

	CodeProvisionCode        = "provision-code"        // 403: unknown, wrong, used up or expired; which one is not told
	CodeProvisionOtherTPM    = "provision-other-tpm"   // 409: another TPM has this id, or has claimed the code
	CodeProvisionRevoked     = "provision-revoked"     // 403: the kiosk of this id was revoked
	CodeProvisionEK          = "provision-ek"          // 403: no endorsement key of a maker that the policy trusts
	CodeProvisionAttestation = "provision-attestation" // 403: the TPM has not proved what it should
	CodeProvisionSession     = "provision-session"     // 404: over or unknown; begin again
	CodeProvisionRejected    = "provision-rejected"    // 403: a person at the registry said no

	// Why a token is not unblocked, all 403, beside registry-kiosk, -officer,
	// -officer-revoked, -policy, -simulated, -time and -holder, vault-seal and
	// vault-officer.
	CodeUnblockTPM   = "vault-unblock-tpm"   // the TPM is not the kiosk's, or not the one that the officer signed for
	CodeUnblockToken = "vault-unblock-token" // no active record of the holder says how to administer a token
	CodeUnblockLimit = "vault-unblock-limit" // too many unblockings of the token, or by the officer
	CodeBehind       = "vault-behind"        // it was put back from a backup, and waits to be shown what it has judged since
)

// Codes of verdicts beside record's: why a record is rejected by the registry
// or refused by the vault. A closed list, stable.
const (
	CodeFork           = "registry-fork"            // same kiosk and sequence number, another record
	CodeChain          = "registry-chain"           // names another record as the one before it than the kiosk's own is
	CodeReplay         = "registry-replay"          // another kiosk's record
	CodeKiosk          = "registry-kiosk"           // not signed by the sender's key
	CodeKioskRevoked   = "registry-kiosk-revoked"   // the kiosk was revoked before the record came
	CodeOfficer        = "registry-officer"         // officer's or supervisor's certificate
	CodeOfficerRevoked = "registry-officer-revoked" // the officer's or supervisor's card was reported lost
	CodeAttestation    = "registry-attestation"     // the holder's key is not proved to live in a device
	CodeSimulated      = "registry-simulated"       // test roots at a production registry
	CodePolicy         = "registry-policy"          // against its policy, or made before that was in force
	CodePolicyStale    = "registry-policy-stale"    // made when its policy had expired, or was long out of date
	CodeUnknownPolicy  = "registry-policy-unknown"  // retry: the registry does not have the record's policy yet
	CodeTime           = "registry-time"            // made outside of what clock and offline days allow
	CodeDuplicateKey   = "registry-duplicate-key"   // a key that another record has
	CodeHolder         = "registry-holder"          // replaces, updates or revokes an unknown or ended DID
	CodeSuspended      = "registry-suspended"       // the DID is suspended: a second officer must agree to replace it
	CodeID             = "registry-id"              // sent under another id than its own
	CodeSealed         = "vault-seal"               // the identity cannot be opened
	CodeDocument       = "vault-document"           // the document does not verify, or not for this enrollment
	CodeGuardian       = "vault-guardian"           // a child without a guardian, a guardian whose document does not hold or who cannot be one, or one whom nobody needs
	CodeOwnEnrollment  = "vault-officer"            // an officer who signed is the holder, or the guardian: another officer must enroll
	CodeReview         = "vault-review"             // a person decides; says nothing about why
)

// Codes of a standing: why a DID is suspended or revoked.
const (
	CodeCancelled = "registry-cancelled" // somebody gave the cancel code
	CodeRevoked   = "registry-revoked"   // by a record: the holder's own, or one of two officers
	CodeReplaced  = "registry-replaced"  // by a record that brought another key
)

// NewProblem fills Type from code.
func NewProblem(status int, code, title string) Problem {
	return Problem{Type: "urn:enrollkiosk:problem:" + code, Title: title, Status: status, Code: code}
}

// Check holds the form.
func (p Problem) Check() error {
	if p.Status < 400 || p.Status > 599 || p.Type != "urn:enrollkiosk:problem:"+p.Code || p.RetryAfter < 0 {
		return fmt.Errorf("%w: problem", ErrForm)
	}
	return nil
}

// message is what Decode reads.
type message interface {
	Batch | BatchResult | RecordStatus | StatusQuery | StatusResult | ReceiptQuery | OpenRequest | OpenResult | Problem | ProvisionBegin | ProvisionChallenge | ProvisionProof | ProvisionStatus | UnblockOrder | UnblockResult | ClaimsRequest | ClaimsResult | PlacesRequest | PlacesResult |
		Cancellation | Cancelled | OutcomesRequest | Outcomes | LevelRequest | LevelResult | KioskCertificates
	Check() error
}

// bodies are buffers of Decode between its calls.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// Decode reads one message of at most MaxBody bytes, strictly: missing, unknown,
// repeated or differently written members, null and trailing data are refused,
// then Check runs. Errors wrap ErrForm, ErrSize or the reader's own.
func Decode[M message](r io.Reader) (M, error) {
	var m, none M
	body := bodies.Get().(*bytes.Buffer) // a batch would be copied over and over as it grows
	defer bodies.Put(body)
	body.Reset()
	if _, err := body.ReadFrom(io.LimitReader(r, MaxBody+1)); err != nil {
		return none, fmt.Errorf("read message: %w", err)
	}
	b := body.Bytes() // what is decoded from it is copied
	if len(b) > MaxBody {
		return none, ErrSize
	}
	if batch, is := any(&m).(*Batch); is && batch.readPlain(b) {
		if err := m.Check(); err != nil {
			return none, err
		}
		return m, nil
	}
	if err := strict(b, reflect.TypeFor[M]()); err != nil {
		return none, fmt.Errorf("%w: %w", ErrForm, err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return none, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := m.Check(); err != nil {
		return none, err
	}
	return m, nil
}

// readPlain reads a batch that is written as Go writes it, which most are: a
// general reader takes half as long as all signatures in it. It says no to
// anything else, and to nothing that Decode would read otherwise.
func (b *Batch) readPlain(text []byte) bool {
	rest, ok := bytes.CutPrefix(text, []byte(`{"items":[`))
	var items []Item
	for ok && len(items) < MaxItems {
		var item Item
		if rest, ok = bytes.CutPrefix(rest, []byte(`{"id":"`)); !ok || len(rest) < 64 || item.ID.UnmarshalText(rest[:64]) != nil {
			return false
		}
		if rest, ok = bytes.CutPrefix(rest[64:], []byte(`","submission":"`)); !ok {
			return false
		}
		end := bytes.IndexByte(rest, '"')
		if end < 0 || item.Submission.UnmarshalText(rest[:end]) != nil {
			return false
		}
		items = append(items, item)
		if string(rest[end:]) == `"}]}` {
			b.Items = items
			return true
		}
		rest, ok = bytes.CutPrefix(rest[end:], []byte(`"},`))
	}
	return false
}

// maxDepth is more than any message has.
const maxDepth = 8

// strict walks one JSON value that is to become a typ, and refuses what
// encoding/json lets pass: names that repeat or are not lower case, members that
// are missing, null, bytes that are no string, and trailing data.
func strict(b []byte, typ reflect.Type) error {
	d := json.NewDecoder(bytes.NewReader(b))
	type level struct {
		typ   reflect.Type    // nil where the decoder will refuse it anyway
		names map[string]bool // nil in an array
		next  reflect.Type    // of the value that comes next
		value bool            // a name was read, its value comes next
	}
	stack := []level{{next: typ, value: true}}
	for {
		t, err := d.Token()
		if err != nil {
			return err
		}
		top := &stack[len(stack)-1]
		if name, ok := t.(string); ok && top.names != nil && !top.value {
			if top.names[name] || strings.ToLower(name) != name {
				return errors.New("repeated or misspelt member")
			}
			top.names[name], top.value, top.next = true, true, member(top.typ, name)
			continue
		}
		top.value = false
		want := top.next
		if t == json.Delim('}') || t == json.Delim(']') {
			want = nil
		}
		switch _, text := t.(string); {
		case t == nil:
			return errors.New("null")
		case want != nil && !text && (want.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || want == reflect.TypeFor[[]byte]()):
			return errors.New("a string is wanted")
		}
		switch t {
		case json.Delim('{'):
			stack = append(stack, level{typ: want, names: map[string]bool{}})
		case json.Delim('['):
			l := level{}
			if want != nil && want.Kind() == reflect.Slice {
				l.next = want.Elem()
			}
			stack = append(stack, l)
		case json.Delim('}'), json.Delim(']'):
			if name := missing(top.typ, top.names); name != "" {
				return fmt.Errorf("%s is missing", name)
			}
			stack = stack[:len(stack)-1]
		}
		if len(stack) > maxDepth+1 {
			return errors.New("too deep")
		}
		if len(stack) == 1 {
			break
		}
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("trailing data")
	}
	return nil
}

// member is the type of a struct's member, what a pointer points to; nil if there
// is none.
func member(typ reflect.Type, name string) reflect.Type {
	if typ == nil || typ.Kind() != reflect.Struct {
		return nil
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		if own, _, _ := strings.Cut(f.Tag.Get("json"), ","); own == name {
			if f.Type.Kind() == reflect.Pointer {
				return f.Type.Elem()
			}
			return f.Type
		}
	}
	return nil
}

// missing is a member that is never left out, and is not among names; empty if
// there is none.
func missing(typ reflect.Type, names map[string]bool) string {
	if typ == nil || typ.Kind() != reflect.Struct || names == nil {
		return ""
	}
	for i := range typ.NumField() {
		if name, optional, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); optional == "" && !names[name] {
			return name
		}
	}
	return ""
}

// IsMedia reports whether a Content-Type header is of the media type want,
// parameters aside.
func IsMedia(header, want string) bool {
	got, _, err := mime.ParseMediaType(header)
	wanted, _, _ := mime.ParseMediaType(want)
	return err == nil && got == wanted
}
