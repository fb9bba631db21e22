// Package testregistry is a small registry for the tests of sync: it keeps the
// HTTP contract with real signatures, a real log and real TLS, and decides what
// it is told to decide. It checks of a record only its form.
package testregistry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	tlog "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// Origin is the log's name.
const Origin = "registry.example/log"

// Host is the name in the registry's certificate, beside 127.0.0.1.
const Host = "registry.example"

// Registry answers on a loopback address until the test ends.
type Registry struct {
	URL         string
	Address     string
	Policy      policy.Signed
	Certificate tls.Certificate // its own
	Kiosk       tls.Certificate // one that it admits

	authority             record.AuthorityPrivateKey
	root, verdicts, vault Device
	ca                    *authority
	log                   note.Signer
	policy                policy.Policy

	// Unblock answers requests to unblock a token.
	Unblock func(request []byte) (media string, status int, answer []byte)

	mu       sync.Mutex
	tree     *testonly.Tree
	entries  [][]byte
	records  map[api.ID]*held
	times    map[api.ID]int    // how often each record was submitted
	reject   map[api.ID]string // records to reject, with the code
	requests int
	reports  [][]byte
	delay    int // status requests before a receipt is ready
	decision receipt.Status
	change   func(path string, answer any)
}

type held struct {
	submission record.Submission
	asked      int
	index      uint64
	receipt    []byte
	ready      []byte // the receipt, made beforehand
	verdict    []byte
	status     api.Status
	code       string
}

// Device is a signing key.
type Device struct{ *ecdsa.PrivateKey }

// NewDevice makes one.
func NewDevice() Device {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	return Device{key}
}

func (d Device) Public() crypto.PublicKey { return d.PrivateKey.Public() }

// Sign is record.Signer's.
func (d Device) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return d.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type authority struct {
	key  Device
	cert *x509.Certificate
}

func newAuthority(name string) *authority {
	a := &authority{key: NewDevice()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key.PrivateKey)
	must(err)
	a.cert, err = x509.ParseCertificate(der)
	must(err)
	return a
}

// issue makes a certificate for a server or client, good until then.
func (a *authority) issue(name string, use x509.ExtKeyUsage, until time.Time) tls.Certificate {
	key := NewDevice()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key.PrivateKey)
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.PrivateKey}
}

// New starts a registry. wrap, when not nil, stands between network and server.
func New(t testing.TB, wrap func(r *Registry, l net.Listener) net.Listener) *Registry {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, Origin)
	must(err)
	signer, err := note.NewSigner(skey)
	must(err)
	r := &Registry{root: NewDevice(), verdicts: NewDevice(), vault: NewDevice(), ca: newAuthority("Specimen TLS"), log: signer,
		tree: testonly.New(rfc6962.DefaultHasher), records: map[api.ID]*held{}, times: map[api.ID]int{}, reject: map[api.ID]string{}, decision: receipt.Active}
	r.authority, err = record.GenerateAuthorityKey()
	must(err)
	r.policy = policy.Policy{Version: 1, Issued: time.Now().UTC().Truncate(time.Second).Add(-time.Hour),
		Expires: time.Now().UTC().Truncate(time.Second).Add(24 * time.Hour), LogOrigin: Origin, LogKey: vkey, Authority: r.authority.Public(),
		Anchors: []policy.Root{}, CRLs: [][]byte{}, PIVRoots: []policy.Root{}, TPMRoots: []policy.Root{}, OfficerCA: []policy.Root{}, KioskCA: []policy.Root{},
		RegistryTLS:   []policy.Root{{Certificate: r.ca.cert.Raw, Class: record.Test}},
		VerdictKeys:   policy.VerdictKeys{Registry: []record.JWK{jwk(r.verdicts)}, Vault: []record.JWK{jwk(r.vault)}},
		RevokedTokens: []uint64{}, RevokedOfficers: [][32]byte{}, Consents: []policy.Text{}, Languages: []string{}, Files: []uint16{}}
	r.Policy = r.sign(r.policy)
	r.Certificate = r.ca.issue(Host, x509.ExtKeyUsageServerAuth, time.Now().Add(24*time.Hour))
	r.Kiosk = r.ca.issue("KIOSK-0001", x509.ExtKeyUsageClientAuth, time.Now().Add(24*time.Hour))
	r.serve(t, wrap)
	return r
}

func jwk(d Device) record.JWK {
	j, err := record.NewJWK(d.Public())
	must(err)
	return j
}

func (r *Registry) sign(p policy.Policy) policy.Signed {
	b, err := policy.Sign(context.Background(), p, r.root)
	must(err)
	hash, err := policy.RootHash(r.root.Public())
	must(err)
	s, err := policy.Parse(b, hash)
	must(err)
	return s
}

// Successor is the policy with a change, one version on.
func (r *Registry) Successor(change func(*policy.Policy)) policy.Signed {
	p := r.policy
	p.Version++
	change(&p)
	return r.sign(p)
}

// Expired is a certificate that the registry's authority issued and that has
// run out; Foreign one of another authority.
func (r *Registry) Expired() tls.Certificate {
	return r.ca.issue(Host, x509.ExtKeyUsageServerAuth, time.Now().Add(-time.Minute))
}

// Foreign is a kiosk's certificate of another authority.
func (r *Registry) Foreign() tls.Certificate {
	return newAuthority("Other").issue("KIOSK-0001", x509.ExtKeyUsageClientAuth, time.Now().Add(time.Hour))
}

// OtherHost is a good certificate of the registry's authority for another name.
func (r *Registry) OtherHost() tls.Certificate {
	key := NewDevice()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"other.example"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, r.ca.cert, key.Public(), r.ca.key.PrivateKey)
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key.PrivateKey}
}

func (r *Registry) serve(t testing.TB, wrap func(r *Registry, l net.Listener) net.Listener) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	r.Address = l.Addr().String()
	r.URL = "https://" + r.Address
	if wrap != nil {
		l = wrap(r, l)
	}
	kiosks := x509.NewCertPool()
	kiosks.AddCert(r.ca.cert)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathRecords, r.post)
	mux.HandleFunc("POST "+api.PathStatus, r.status)
	mux.HandleFunc("GET "+api.PathRecords+"/{id}", r.get)
	mux.HandleFunc("POST "+api.PathReceipts, r.shown)
	mux.HandleFunc("POST "+api.PathActivity, r.report)
	mux.HandleFunc("POST "+api.PathTokenUnblock, func(w http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		must(err)
		if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJOSEJS) {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		media, status, answer := r.Unblock(b)
		write(w, media, status, answer)
	})
	mux.HandleFunc("GET "+api.PathLog+"{path...}", r.serveLog)
	mux.HandleFunc("GET "+api.PathPolicy, func(w http.ResponseWriter, _ *http.Request) { write(w, api.MediaJOSE, 200, r.Policy.Bytes()) })
	mux.HandleFunc("GET "+api.PathTime, func(w http.ResponseWriter, _ *http.Request) { write(w, api.MediaJOSE, 200, []byte(r.Time())) })
	s := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{r.Certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: kiosks}}
	done := make(chan struct{})
	go func() { s.ServeTLS(l, "", ""); close(done) }()
	t.Cleanup(func() { s.Close(); <-done })
}

func (r *Registry) add(entry []byte) {
	r.tree.AppendData(entry)
	r.entries = append(r.entries, bytes.Clone(entry))
}

// Fork makes the log one that shares the first n entries with what it was, and is
// as long.
func (r *Registry) Fork(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.entries
	r.tree, r.entries = testonly.New(rfc6962.DefaultHasher), nil
	for i, e := range was {
		if i >= n {
			e = append([]byte("another "), e...)
		}
		r.add(e)
	}
}

// Grow logs n entries of nobody.
func (r *Registry) Grow(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range n {
		r.add([]byte{byte(i), byte(i >> 8)})
	}
}

// checkpoint is signed over the whole log.
func (r *Registry) checkpoint() []byte {
	signed, err := note.Sign(&note.Note{Text: string(tlog.Checkpoint{Origin: Origin, Size: r.tree.Size(), Hash: r.tree.Hash()}.Marshal())}, r.log)
	must(err)
	return signed
}

func (r *Registry) serveLog(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.PathValue("path") == checkpoint.PathCheckpoint {
		write(w, api.MediaText, 200, r.checkpoint())
		return
	}
	b, there := logtest.Files(r.entries)[q.PathValue("path")]
	if !there {
		problem, err := json.Marshal(api.NewProblem(http.StatusNotFound, api.CodeNotFound, "not in the log"))
		must(err)
		write(w, api.MediaProblem, 404, problem)
		return
	}
	write(w, "application/octet-stream", 200, b)
}

func write(w http.ResponseWriter, media string, status int, b []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// Time is the clock, signed.
func (r *Registry) Time() string {
	b, err := receipt.SignTime(context.Background(), receipt.Time{Audience: Origin, Time: time.Now().UTC().Truncate(time.Second)}, r.verdicts)
	must(err)
	return string(b)
}

// Change has f get each answer before it is sent; nil ends that.
func (r *Registry) Change(f func(path string, answer any)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.change = f
}

// Reject makes the registry reject a record.
func (r *Registry) Reject(id [32]byte, code string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reject[id] = code
}

// Expect makes ready what the registry is going to answer about records, so that
// answering takes it no time.
func (r *Registry) Expect(all []record.Submission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		h := &held{submission: s, index: r.tree.Size(), status: api.Pending}
		p := s.Record().Payload()
		leaf := receipt.Leaf(p.Blind, s.ID())
		r.tree.AppendData(leaf[:])
		r.records[s.ID()] = h
		h.status, h.verdict = api.Active, r.Verdict(receipt.Verdict{Record: s.ID(), DID: p.Holder.DID, Status: receipt.Active}, true)
	}
	for _, s := range all {
		r.records[s.ID()].ready = r.receipt(r.records[s.ID()])
	}
}

// Lose makes the registry forget a record that it has accepted.
func (r *Registry) Lose(id [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.records, id)
}

// Delay is how many status requests come before a record's receipt is ready.
func (r *Registry) Delay(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = n
}

// Decide sets what the vault says from now on; empty: nothing.
func (r *Registry) Decide(s receipt.Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decision = s
}

// Records counts the records that it holds, Submitted how often one came,
// Requests how often anything was asked.
func (r *Registry) Records() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

// Submitted is how often a record came.
func (r *Registry) Submitted(id [32]byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.times[id]
}

// Requests is how often records were sent or asked for.
func (r *Registry) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

func (r *Registry) answer(w http.ResponseWriter, q *http.Request, v any) {
	r.mu.Lock()
	change := r.change
	r.mu.Unlock()
	if change != nil {
		change(q.URL.Path, v)
	}
	b, err := json.Marshal(v)
	must(err)
	write(w, api.MediaJSON, 200, b)
}

func problem(w http.ResponseWriter, status int, code string) {
	b, err := json.Marshal(api.NewProblem(status, code, "no"))
	must(err)
	write(w, api.MediaProblem, status, b)
}

func (r *Registry) post(w http.ResponseWriter, q *http.Request) {
	if len(q.TLS.PeerCertificates) == 0 {
		problem(w, http.StatusForbidden, api.CodeNoKiosk)
		return
	}
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == api.Gzip {
		var err error
		if body, err = gzip.NewReader(q.Body); err != nil {
			problem(w, http.StatusBadRequest, api.CodeBadRequest)
			return
		}
	}
	batch, err := api.Decode[api.Batch](body)
	if err != nil {
		problem(w, http.StatusBadRequest, api.CodeBadRequest)
		return
	}
	r.mu.Lock()
	out := api.BatchResult{Time: r.Time()}
	r.requests++
	for _, item := range batch.Items {
		r.times[item.ID]++
		out.Verdicts = append(out.Verdicts, r.take(item))
	}
	r.mu.Unlock()
	r.answer(w, q, &out)
}

// report takes what a kiosk says of its officers, unread.
func (r *Registry) report(w http.ResponseWriter, q *http.Request) {
	if len(q.TLS.PeerCertificates) == 0 || q.Header.Get("Content-Type") != api.MediaJOSE {
		problem(w, http.StatusForbidden, api.CodeNoKiosk)
		return
	}
	b, err := io.ReadAll(q.Body)
	must(err)
	r.mu.Lock()
	r.reports = append(r.reports, b)
	r.mu.Unlock()
	write(w, api.MediaJOSE, 200, []byte(r.Time()))
}

// Reports are what kiosks said of their officers.
func (r *Registry) Reports() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports
}

func (r *Registry) take(item api.Item) api.ItemVerdict {
	if h := r.records[item.ID]; h != nil {
		if h.receipt != nil {
			return api.ItemVerdict{ID: item.ID, Status: api.Accepted}
		}
		return api.ItemVerdict{ID: item.ID, Status: api.Pending}
	}
	s, err := record.ParseSubmission(item.Submission)
	code := r.reject[item.ID]
	if err != nil || s.ID() != item.ID {
		code = api.CodeID
	}
	if code != "" {
		return api.ItemVerdict{ID: item.ID, Status: api.Rejected, Code: code,
			Verdict: string(r.Verdict(receipt.Verdict{Record: item.ID, Status: receipt.Rejected, Code: code}, false))}
	}
	h := &held{submission: s, index: r.tree.Size(), status: api.Pending}
	leaf := receipt.Leaf(s.Record().Payload().Blind, s.ID())
	r.add(leaf[:])
	r.records[item.ID] = h
	return api.ItemVerdict{ID: item.ID, Status: api.Pending}
}

// Verdict signs one, as the vault or as the registry.
func (r *Registry) Verdict(v receipt.Verdict, byVault bool) []byte {
	v.Time = time.Now().UTC().Truncate(time.Second)
	by := r.verdicts
	if byVault {
		by = r.vault
	}
	b, err := receipt.SignVerdict(context.Background(), v, by)
	must(err)
	return b
}

// Answer signs one to a request to unblock a token, as the vault or as the registry.
func (r *Registry) Answer(a record.UnblockAnswer, byVault bool) []byte {
	by := r.verdicts
	if byVault {
		by = r.vault
	}
	b, err := record.SignUnblockAnswer(context.Background(), a, by)
	must(err)
	return b
}

func (r *Registry) get(w http.ResponseWriter, q *http.Request) {
	id, err := api.ParseID(q.PathValue("id"))
	if err != nil || len(q.TLS.PeerCertificates) == 0 {
		problem(w, http.StatusForbidden, api.CodeNoKiosk)
		return
	}
	r.mu.Lock()
	r.requests++
	out := r.tell(id)
	r.mu.Unlock()
	if out.Status == api.Unknown {
		problem(w, http.StatusNotFound, api.CodeNotFound)
		return
	}
	r.answer(w, q, &out)
}

func (r *Registry) status(w http.ResponseWriter, q *http.Request) {
	query, err := api.Decode[api.StatusQuery](q.Body)
	if err != nil || len(q.TLS.PeerCertificates) == 0 {
		problem(w, http.StatusForbidden, api.CodeNoKiosk)
		return
	}
	r.mu.Lock()
	r.requests++
	var out api.StatusResult
	for _, id := range query.IDs {
		out.Statuses = append(out.Statuses, r.tell(id))
	}
	r.mu.Unlock()
	r.answer(w, q, &out)
}

// shown takes the receipts that this registry gave, byte by byte.
func (r *Registry) shown(w http.ResponseWriter, q *http.Request) {
	query, err := api.Decode[api.ReceiptQuery](q.Body)
	if err != nil || len(q.TLS.PeerCertificates) == 0 || !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJSON) {
		problem(w, http.StatusForbidden, api.CodeNoKiosk)
		return
	}
	id, err := receipt.RecordID([]byte(query.Receipt))
	r.mu.Lock()
	r.requests++
	out := r.tell(id)
	r.mu.Unlock()
	if err != nil || out.Status == api.Unknown || out.Receipt != query.Receipt {
		problem(w, http.StatusNotFound, api.CodeReceipt)
		return
	}
	out.Receipt = ""
	r.answer(w, q, &out)
}

// tell is what a kiosk that asks for a record learns.
func (r *Registry) tell(id api.ID) api.RecordStatus {
	h := r.records[id]
	if h == nil {
		return api.RecordStatus{ID: id, Status: api.Unknown}
	}
	h.asked++
	if h.receipt == nil && h.asked > r.delay {
		if h.receipt = h.ready; h.receipt == nil {
			h.receipt = r.receipt(h)
		}
	}
	if did := h.submission.Record().Payload().Holder.DID; h.status == api.Pending && did != "" && r.decision != "" {
		v := receipt.Verdict{Record: id, DID: did, Status: r.decision}
		if v.Status == receipt.Refused {
			v.Code = api.CodeReview
		}
		h.status, h.verdict, h.code = api.Status(v.Status), r.Verdict(v, true), v.Code
	}
	return api.RecordStatus{ID: id, Status: h.status, Code: h.code, Verdict: string(h.verdict), Receipt: string(h.receipt)}
}

func (r *Registry) receipt(h *held) []byte {
	path, err := r.tree.InclusionProof(h.index, r.tree.Size())
	must(err)
	var hashes [][32]byte
	for _, p := range path {
		hashes = append(hashes, [32]byte(p))
	}
	return receipt.Build(h.index, hashes, r.checkpoint(), h.submission.Record().Payload().Blind, h.submission.ID())
}

// OtherReceipt is a true receipt for the same record under another blind: the
// log has such a leaf, but it is not the record's.
func (r *Registry) OtherReceipt(id [32]byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	blind := sha256.Sum256(id[:])
	leaf := receipt.Leaf(blind, id)
	index := r.tree.Size()
	r.add(leaf[:])
	path, err := r.tree.InclusionProof(index, r.tree.Size())
	must(err)
	var hashes [][32]byte
	for _, p := range path {
		hashes = append(hashes, [32]byte(p))
	}
	return receipt.Build(index, hashes, r.checkpoint(), blind, id)
}

// Void makes a kiosk's void record of a sequence number.
func Void(t testing.TB, sequence uint64) record.Submission {
	t.Helper()
	s, err := record.NewVoid(t.Context(), recordContext(record.Void, sequence, "none"), [32]byte{1}, times(), NewDevice(), nil)
	must(err)
	out, err := record.NewSubmission(s, nil)
	must(err)
	return out
}

func recordContext(p record.Purpose, sequence uint64, authority string) record.Context {
	c := record.Context{Version: record.Version, Audience: Origin, Purpose: p, KioskID: "KIOSK-0001", Sequence: sequence, PolicyDigest: [32]byte{1}, AuthorityKeyID: authority}
	rand.Read(c.Nonce[:])
	return c
}

func times() record.Times {
	return record.Times{Wall: time.Now().UTC().Truncate(time.Second), Monotonic: 1000, Boot: [16]byte{1}}
}

// Enroll makes an enrollment's record.
func (r *Registry) Enroll(t testing.TB, sequence uint64) record.Submission {
	t.Helper()
	holder, officer, kiosk := NewDevice(), NewDevice(), NewDevice()
	chain := r.ca.issue("4711", x509.ExtKeyUsageAny, time.Now().Add(time.Hour))
	officer.PrivateKey = chain.PrivateKey.(*ecdsa.PrivateKey)
	did, err := record.DIDKey(holder.Public())
	must(err)
	evidence := &record.Attestation{PIV: &record.PIVEvidence{Certificate: []byte("9A"), Intermediate: []byte("F9")}}
	p := record.Payload{Context: recordContext(record.Enroll, sequence, r.authority.Public().ID), Previous: [32]byte{1}, Times: times(),
		Holder:   record.HolderKey{DID: did, Key: jwk(holder), Where: record.PIV, Class: record.Test, Attestation: evidence.Digest()},
		Purposes: []record.Consent{{ID: "enrollment", Version: 1}}, CancelSHA: record.CancelHash([]byte("code"))}
	rand.Read(p.Blind[:])
	p.Identity, err = record.Seal(p.Context, r.authority.Public(), record.Identity{Document: record.EMRTD, Access: "PACE",
		Files: map[uint16]secret.Text{0x0101: secret.FromString("DG1"), 0x011D: secret.FromString("SOD")}, Report: []byte("{}"),
		Consents: []record.ConsentText{{ID: "enrollment", Version: 1, Digest: [32]byte{1}, Language: "en"}}})
	must(err)
	parties := []struct {
		role  record.Role
		key   Device
		chain [][]byte
	}{{record.Holder, holder, nil}, {record.Officer, officer, chain.Certificate}, {record.Kiosk, kiosk, nil}}
	for _, by := range parties {
		ref, err := record.SignerOf(by.role, by.key.Public(), by.chain)
		must(err)
		p.Signers = append(p.Signers, ref)
	}
	d, err := record.New(p)
	must(err)
	for _, by := range parties {
		must(d.Sign(t.Context(), by.role, by.key, by.chain))
	}
	rec, err := d.Record()
	must(err)
	s, err := record.NewSubmission(rec, evidence)
	must(err)
	return s
}

// IsReceipt says whether b is the log's receipt for a record.
func (r *Registry) IsReceipt(b []byte, id [32]byte) bool {
	f, err := receipt.Verify(b, r.policy.Log(), id)
	return err == nil && bytes.Equal(f.Bytes(), b) && strings.HasPrefix(f.Origin(), Origin)
}
