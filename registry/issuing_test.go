package registry_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.etcd.io/bbolt"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/issuer"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/idcard"
)

const issuerID = "https://id.example"

// office is a registry that issues, with its vault, on either store.
type office struct {
	t        testing.TB
	w        *registrytest.World
	k        *registrytest.Kiosk
	c        client
	options  registry.Options
	url      string // of the issuer
	running  *running
	http     *http.Client
	database string // address; empty: embedded
}

// stores runs a test on both.
func onStores(t *testing.T, f func(t *testing.T, o *office)) {
	for _, name := range []string{"embedded", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newOffice(t, name == "postgres"))
		})
	}
}

func newOffice(t testing.TB, postgres bool) *office {
	t.Helper()
	o := &office{t: t, w: registrytest.New(t, specimenState(t).CSCA())}
	o.w.Issue(t, issuerID)
	vault, _ := serveVault(t, o.w, "127.0.0.1:0")
	o.k = o.w.Kiosk(t, "KIOSK-0001")
	o.options = o.w.RegistryOptions(vault)
	// The smallest lists: a test reads them all, and finds them full.
	o.options.StatusSize, o.options.StatusInterval = 4096, time.Second
	if postgres {
		o.database, _ = database(t)
		enlist(t, o.w, o.database, o.k)
		o.options.Database = o.database
	}
	o.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: o.w.TLS(t)}}
	o.open()
	return o
}

// open serves the registry and its issuer.
func (o *office) open() {
	o.t.Helper()
	o.running = serve(o.t, o.options)
	o.c = connect(o.t, o.w, o.running.URL, o.k.TLS)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		o.t.Fatal(err)
	}
	o.url = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(o.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.running.ServeIssuer(ctx, l) }()
	stopRegistry := o.running.stop
	o.running.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			o.t.Errorf("serve issuer: %v", err)
		}
		stopRegistry()
	})
	o.t.Cleanup(o.running.stop)
}

// citizen is enrolled and has a helper.
type citizen struct {
	o      *office
	device registrytest.Device
	did    string
	cancel [16]byte // code
	record record.Submission
}

func (o *office) enroll(birth time.Time, number string) citizen {
	o.t.Helper()
	person := idcard.SpecimenPerson()
	person.Birth, person.BirthField, person.Number = birth, "", number
	z := citizen{o: o, device: registrytest.NewDevice(o.t)}
	z.did = didOf(o.t, z.device)
	rand.Read(z.cancel[:])
	z.record = o.k.Make(o.t, registrytest.Spec{Holder: &z.device, Identity: identityOf(o.t, person), Payload: withCode(z.cancel)})
	o.c.send(z.record)
	if got := o.c.until(z.record.ID(), "verdict", isDecided); got.Status != api.Active {
		o.t.Fatalf("%+v", got)
	}
	return z
}

func (z citizen) code() string { return record.ClaimCode(z.record.Record().Payload().CancelSHA) }

// call is a request to the issuer; its answer must be JSON.
func (o *office) call(path, media, token string, body []byte) (status int, answer map[string]any, raw []byte) {
	o.t.Helper()
	q, err := http.NewRequest(http.MethodPost, o.url+path, bytes.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	q.Header.Set("Content-Type", media)
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := o.http.Do(q)
	if err != nil {
		o.t.Fatal(err)
	}
	defer a.Body.Close()
	if raw, err = io.ReadAll(a.Body); err != nil {
		o.t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		o.t.Fatalf("%s: %d %s", path, a.StatusCode, raw)
	}
	return a.StatusCode, answer, raw
}

// refuses holds that an answer has a status and an error code.
func (o *office) refuses(what string, status int, answer map[string]any, want int, code string) {
	o.t.Helper()
	if status != want || answer["error"] != code {
		o.t.Errorf("%s: %d %v, want %d %s", what, status, answer, want, code)
	}
}

func (o *office) nonce() string {
	o.t.Helper()
	_, answer, _ := o.call(issuer.PathNonce, "application/json", "", nil)
	return answer["c_nonce"].(string)
}

func (z citizen) batch(nonce string) credential.Batch {
	return credential.Batch{Issuer: issuerID, DID: z.did, Nonce: nonce, Storage: credential.DerivedFromPIV, Now: time.Now()}
}

// offer asks for one: its code, and whether the claim code is wanted.
func (z citizen) offer() (status int, answer map[string]any) {
	z.o.t.Helper()
	jwt, err := z.batch(z.o.nonce()).SignOfferRequest(z.device.PrivateKey)
	if err != nil {
		z.o.t.Fatal(err)
	}
	status, answer, _ = z.o.call(issuer.PathOffer, "application/jwt", "", []byte(jwt))
	return status, answer
}

func offered(t testing.TB, answer map[string]any) (code string, claim bool) {
	t.Helper()
	grants, _ := answer["grants"].(map[string]any)
	grant, _ := grants["urn:ietf:params:oauth:grant-type:pre-authorized_code"].(map[string]any)
	code, _ = grant["pre-authorized_code"].(string)
	if code == "" {
		t.Fatal(answer)
	}
	return code, grant["tx_code"] != nil
}

func (o *office) token(code, claim string) (status int, answer map[string]any) {
	o.t.Helper()
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:pre-authorized_code"}, "pre-authorized_code": {code}}
	if claim != "" {
		form.Set("tx_code", claim)
	}
	status, answer, _ = o.call(issuer.PathToken, "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	return status, answer
}

// access is a token, with all that it takes.
func (z citizen) access() string {
	z.o.t.Helper()
	_, answer := z.offer()
	code, wanted := offered(z.o.t, answer)
	claim := ""
	if wanted {
		claim = z.code()
	}
	_, answer = z.o.token(code, claim)
	token, ok := answer["access_token"].(string)
	if !ok {
		z.o.t.Fatal(answer)
	}
	return token
}

func newKeys(t testing.TB, n int) (keys []*ecdsa.PrivateKey) {
	t.Helper()
	for range n {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	return keys
}

// request is the body of a request for credentials.
func (z citizen) request(configuration string, keys []*ecdsa.PrivateKey) []byte {
	z.o.t.Helper()
	b := z.batch(z.o.nonce())
	var public []*ecdsa.PublicKey
	for _, k := range keys {
		public = append(public, &k.PublicKey)
	}
	attestation, err := b.SignAttestation(z.device.PrivateKey, public)
	if err != nil {
		z.o.t.Fatal(err)
	}
	var proofs []string
	for _, k := range keys {
		p, err := b.SignProof(k, attestation)
		if err != nil {
			z.o.t.Fatal(err)
		}
		proofs, attestation = append(proofs, p), ""
	}
	body, err := json.Marshal(map[string]any{"credential_configuration_id": configuration, "proofs": map[string]any{"jwt": proofs}})
	if err != nil {
		z.o.t.Fatal(err)
	}
	return body
}

func (o *office) authority() credential.Authority {
	o.t.Helper()
	pool := x509.NewCertPool()
	for _, root := range o.w.Policy.Policy().Issuer.Roots {
		c, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			o.t.Fatal(err)
		}
		pool.AddCert(c)
	}
	return credential.Authority{Issuer: issuerID, Roots: pool}
}

func statusURIs() (uris []string) {
	for n := range 4 {
		uris = append(uris, fmt.Sprintf("%s/status/%d", issuerID, n))
	}
	return uris
}

// accept has the helper take what came.
func (o *office) accept(raw []byte, configuration string, keys []*ecdsa.PrivateKey) (issued []credential.Issued) {
	o.t.Helper()
	var answer struct{ Credentials []struct{ Credential string } }
	if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Credentials) != len(keys) {
		o.t.Fatalf("%s", raw)
	}
	terms := credential.Terms{Authority: o.authority(), StatusURIs: statusURIs(), Now: time.Now()}
	terms.Type, terms.Claims = credential.RealPerson(issuerID), []string{credential.AgeOver14, credential.AgeOver16, credential.AgeOver18, credential.RealNameVerified}
	if configuration == issuer.LegalName {
		terms.Type, terms.Claims = credential.LegalName(issuerID), []string{credential.FamilyName, credential.GivenName, credential.NameLocal}
	}
	for n, c := range answer.Credentials {
		terms.Key = &keys[n].PublicKey
		i, err := credential.Accept(c.Credential, terms)
		if err != nil {
			o.t.Fatal(err)
		}
		issued = append(issued, i)
	}
	return issued
}

func (z citizen) collect(configuration string, n int) []credential.Issued {
	z.o.t.Helper()
	keys := newKeys(z.o.t, n)
	status, _, raw := z.o.call(issuer.PathCredential, "application/json", z.access(), z.request(configuration, keys))
	if status != http.StatusOK {
		z.o.t.Fatalf("%d %s", status, raw)
	}
	return z.o.accept(raw, configuration, keys)
}

// standing is what the status lists say of a credential now.
func (o *office) standing(i credential.Issued) error {
	o.t.Helper()
	a, err := o.http.Get(o.url + strings.TrimPrefix(i.Status().URI, issuerID))
	if err != nil {
		o.t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if got := a.Header.Get("Content-Type"); got != credential.StatusListMediaType {
		o.t.Fatalf("%s: %s", got, b)
	}
	l, err := credential.VerifyStatusList(string(b), credential.ExpectStatusList{Authority: o.authority(), URI: i.Status().URI, MaxBytes: 512, Now: time.Now()})
	if err != nil {
		o.t.Fatal(err)
	}
	return l.Check(i.Status(), time.Now())
}

// untilRevoked waits until all of them are; none that stays may be.
func (o *office) untilRevoked(revoked, stays []credential.Issued) {
	o.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		n := 0
		for _, i := range revoked {
			if o.standing(i) != nil {
				n++
			}
		}
		if n == len(revoked) {
			break
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%d of %d are revoked", n, len(revoked))
		}
	}
	for _, i := range stays {
		if err := o.standing(i); err != nil {
			o.t.Errorf("of another citizen: %v", err)
		}
	}
}

var adult = time.Date(1974, 8, 12, 0, 0, 0, 0, time.UTC)

// A citizen collects both credentials, and signs in with one; what they say is what
// the document says. Only the first time the paper is needed.
func TestCollect(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, o *office) {
		z := o.enroll(adult, "C01X00T47")
		young := o.enroll(time.Now().AddDate(-15, 0, 0).Truncate(24*time.Hour), "C01X00T48")
		_, answer := z.offer()
		if _, claim := offered(t, answer); !claim {
			t.Error("no claim code is wanted the first time")
		}
		ages := map[string]any{credential.AgeOver14: true, credential.AgeOver16: true, credential.AgeOver18: true, credential.RealNameVerified: true}
		batch := z.collect(issuer.RealPerson, 5)
		seen := map[credential.StatusRef]bool{}
		for _, i := range batch {
			if fmt.Sprint(i.Claims()) != fmt.Sprint(ages) {
				t.Errorf("%v", i.Claims())
			}
			if seen[i.Status()] {
				t.Errorf("%v is given twice", i.Status())
			}
			seen[i.Status()] = true
			if err := o.standing(i); err != nil {
				t.Error(err)
			}
		}
		ages[credential.AgeOver16], ages[credential.AgeOver18] = false, false
		if got := young.collect(issuer.RealPerson, 1)[0].Claims(); fmt.Sprint(got) != fmt.Sprint(ages) {
			t.Errorf("%v", got)
		}
		_, answer = z.offer()
		if _, claim := offered(t, answer); claim {
			t.Error("the claim code is wanted again")
		}
		p := idcard.SpecimenPerson()
		name := z.collect(issuer.LegalName, 2)[0].Claims()
		if name[credential.FamilyName] != p.Surname || name[credential.GivenName] != p.GivenNames {
			t.Errorf("%v", name)
		}
	})
}

// Whoever sends a request again gets the same answer; nobody gets two batches for one
// token, or a credential for a key that has one.
func TestCollectOnce(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, o *office) {
		z := o.enroll(adult, "C01X00T47")
		token, keys := z.access(), newKeys(t, 3)
		body := z.request(issuer.RealPerson, keys)
		var answers sync.Map
		var sending sync.WaitGroup
		for range 4 {
			sending.Go(func() {
				for { // busy is no answer
					status, _, raw := o.call(issuer.PathCredential, "application/json", token, body)
					if status == http.StatusServiceUnavailable {
						continue
					}
					answers.Store(fmt.Sprintf("%d %s", status, raw), true)
					return
				}
			})
		}
		sending.Wait()
		n := 0
		answers.Range(func(k, _ any) bool {
			n++
			if !strings.HasPrefix(k.(string), "200 ") {
				t.Errorf("%v", k)
			}
			return true
		})
		if n != 1 {
			t.Errorf("%d answers", n)
		}
		status, answer, _ := o.call(issuer.PathCredential, "application/json", token, z.request(issuer.RealPerson, newKeys(t, 1)))
		o.refuses("a token twice", status, answer, http.StatusUnauthorized, "invalid_token")
		status, answer, _ = o.call(issuer.PathCredential, "application/json", z.access(), z.request(issuer.RealPerson, keys))
		o.refuses("a key twice", status, answer, http.StatusBadRequest, "invalid_proof")
		other := o.enroll(adult, "C01X00T48")
		status, answer, _ = o.call(issuer.PathCredential, "application/json", other.access(), other.request(issuer.RealPerson, keys[:1]))
		o.refuses("another's key", status, answer, http.StatusBadRequest, "invalid_proof")
		enrolled := []*ecdsa.PrivateKey{other.device.PrivateKey}
		status, answer, _ = o.call(issuer.PathCredential, "application/json", z.access(), z.request(issuer.RealPerson, enrolled))
		o.refuses("another's enrolled key", status, answer, http.StatusBadRequest, "invalid_proof")
		fresh := newKeys(t, 1)
		body = z.request(issuer.RealPerson, fresh)
		status, answer, _ = o.call(issuer.PathCredential, "application/json", other.access(), body)
		o.refuses("another's proofs", status, answer, http.StatusBadRequest, "invalid_proof")
		if status, _, _ := o.call(issuer.PathCredential, "application/json", z.access(), body); status != http.StatusOK {
			t.Errorf("what was refused to another is used up: %d", status)
		}
		status, answer, _ = o.call(issuer.PathCredential, "application/json", z.access(), body)
		o.refuses("a nonce twice", status, answer, http.StatusBadRequest, "invalid_nonce")
	})
}

// Offers are for enrolled keys in good standing; wrong claim codes end an offer, and
// in the end lock the record's.
func TestClaimCodeTries(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, o *office) {
		z := o.enroll(adult, "C01X00T47")
		stranger := citizen{o: o, device: registrytest.NewDevice(t)}
		stranger.did = didOf(t, stranger.device)
		status, answer := stranger.offer()
		o.refuses("not enrolled", status, answer, http.StatusForbidden, "credential_request_denied")
		stranger.did = z.did
		status, answer = stranger.offer()
		o.refuses("another's DID", status, answer, http.StatusBadRequest, "invalid_proof")
		jwt, err := z.batch(o.nonce()).SignOfferRequest(z.device.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, raw := o.call(issuer.PathOffer, "application/jwt", "", []byte(jwt)); status != http.StatusOK {
			t.Fatalf("%s", raw)
		}
		status, answer, _ = o.call(issuer.PathOffer, "application/jwt", "", []byte(jwt))
		o.refuses("an offer request twice", status, answer, http.StatusBadRequest, "invalid_nonce")
		jwt, _ = z.batch("made up").SignOfferRequest(z.device.PrivateKey)
		status, answer, _ = o.call(issuer.PathOffer, "application/jwt", "", []byte(jwt))
		o.refuses("a nonce of its own", status, answer, http.StatusBadRequest, "invalid_nonce")

		status, answer = o.token("made up", "")
		o.refuses("no such offer", status, answer, http.StatusBadRequest, "invalid_grant")
		for range 2 {
			_, answer = z.offer()
			code, _ := offered(t, answer)
			for n := range 5 {
				status, answer = o.token(code, []string{"", "0000-0000"}[n%2])
				o.refuses("a wrong claim code", status, answer, http.StatusBadRequest, "invalid_grant")
			}
			status, answer = o.token(code, z.code())
			o.refuses("the right one after five wrong ones", status, answer, http.StatusBadRequest, "invalid_grant")
		}
		status, answer = z.offer()
		o.refuses("after ten", status, answer, http.StatusForbidden, "credential_request_denied")
	})
}

// When a DID ends, or is suspended, its credentials are revoked, and nobody else's.
// After a lifted suspension they stay so; new ones can be collected.
func TestCredentialsEnd(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, o *office) {
		revoked, suspended, stays := o.enroll(adult, "C01X00T47"), o.enroll(adult, "C01X00T48"), o.enroll(adult, "C01X00T49")
		other := stays.collect(issuer.RealPerson, 5)
		first := append(revoked.collect(issuer.RealPerson, 5), revoked.collect(issuer.LegalName, 2)...)
		token := revoked.access()
		o.c.send(o.k.Make(t, registrytest.Spec{Purpose: record.Revoke, Holder: &revoked.device, Context: func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }}))
		status, answer, _ := o.call(issuer.PathCredential, "application/json", token, revoked.request(issuer.RealPerson, newKeys(t, 1)))
		o.refuses("a token from before", status, answer, http.StatusForbidden, "credential_request_denied")
		o.untilRevoked(first, other)
		status, answer = revoked.offer()
		o.refuses("revoked", status, answer, http.StatusForbidden, "credential_request_denied")

		second := suspended.collect(issuer.RealPerson, 3)
		if status, b := cancel(t, o.c, record.FormatCancelCode(suspended.cancel)); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, b)
		}
		o.untilRevoked(second, other)
		status, answer = suspended.offer()
		o.refuses("suspended", status, answer, http.StatusForbidden, "credential_request_denied")
		if err := o.running.LiftCancellation(t.Context(), suspended.did); err != nil {
			t.Fatal(err)
		}
		third := suspended.collect(issuer.RealPerson, 3)
		o.untilRevoked(second, slices.Concat(other, third))
	})
}

// What the issuer keeps links no two credentials, and none to a record: nothing that
// a website sees is in the store, in any encoding, nor anything that a holder has.
func TestStoreLinksNothing(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, o *office) {
		z := o.enroll(adult, "C01X00T47")
		token, keys := z.access(), newKeys(t, 20)
		body := z.request(issuer.RealPerson, keys)
		status, _, raw := o.call(issuer.PathCredential, "application/json", token, body)
		if status != http.StatusOK {
			t.Fatalf("%s", raw)
		}
		issued := o.accept(raw, issuer.RealPerson, keys)
		before := o.dump()
		o.running.stop()
		if o.database == "" {
			before = o.dump()
		}
		id := z.record.ID()
		secrets := [][]byte{[]byte(token), raw[:200]}
		for n, i := range issued {
			print := credential.Thumbprint(i.Key())
			point, err := i.Key().Bytes()
			if err != nil {
				t.Fatal(err)
			}
			compact := raw[bytes.Index(raw, []byte("ey"))+n:]
			secrets = append(secrets, print[:], point[1:33], compact[:100])
		}
		for kind, values := range before {
			for _, v := range values {
				for _, s := range secrets {
					if bytes.Contains(v, s) {
						t.Errorf("%s holds what a website or a holder has", kind)
					}
				}
				if (kind == string(issuer.KindUsed) || kind == string(issuer.KindKeys) || kind == string(issuer.KindRevoked)) && (bytes.Contains(v, id[:]) || len(v) > 700) {
					t.Errorf("%s: %d bytes, with the record", kind, len(v))
				}
			}
		}
		// What stands under the record has one length for every batch, and is sealed.
		if links := before[string(issuer.KindLinks)]; len(links) != 1 || len(links[0]) != 32+credential.SealedLinks {
			t.Errorf("%d, %d bytes", len(links), len(links[0]))
		}
		// A key is there as a piece of a hash, and all pieces are in order: what came
		// together does not stand together.
		if n := len(before[string(issuer.KindKeys)]); n < 15 {
			t.Errorf("%d places for 20 keys", n)
		}
		bits := 0
		for _, v := range before[string(issuer.KindUsed)] {
			for _, b := range v[len(v)-512:] {
				for ; b > 0; b &= b - 1 {
					bits++
				}
			}
		}
		if bits != 20 {
			t.Errorf("%d indices were given", bits)
		}
	})
}

// dump is everything of each kind: key and value.
func (o *office) dump() map[string][][]byte {
	o.t.Helper()
	out := map[string][][]byte{}
	if o.database != "" {
		db, err := pgx.Connect(o.t.Context(), o.database)
		if err != nil {
			o.t.Fatal(err)
		}
		defer db.Close(o.t.Context())
		rows, err := db.Query(o.t.Context(), `SELECT kind, key, value FROM issuer`)
		if err != nil {
			o.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var kind string
			var key, value []byte
			if err := rows.Scan(&kind, &key, &value); err != nil {
				o.t.Fatal(err)
			}
			out[kind] = append(out[kind], slices.Concat(key, value))
		}
		return out
	}
	db, err := bbolt.Open(filepath.Join(o.w.RegistryDir(), "registry.db"), 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Minute})
	if err != nil {
		return nil // the registry has it
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("issuer")).ForEach(func(k, v []byte) error {
			kind, key, _ := bytes.Cut(k, []byte{0})
			out[string(kind)] = append(out[string(kind)], slices.Concat(key, v))
			return nil
		})
	}); err != nil {
		o.t.Fatal(err)
	}
	return out
}

// The metadata names every address that a wallet needs, under the issuer's id.
func TestIssuerMetadata(t *testing.T) {
	t.Parallel()
	o := newOffice(t, false)
	for path, want := range map[string]string{
		issuer.PathIssuer: `{"credential_issuer":"https://id.example","credential_endpoint":"https://id.example/credential","nonce_endpoint":"https://id.example/nonce",` +
			`"batch_credential_issuance":{"batch_size":50},"credential_configurations_supported":{"legal-name":{"format":"dc+sd-jwt",` +
			`"vct":"https://id.example/vct/legal-name/1","scope":"legal-name","cryptographic_binding_methods_supported":["jwk"],"credential_signing_alg_values_supported":["ES256"],` +
			`"proof_types_supported":{"jwt":{"proof_signing_alg_values_supported":["ES256"],"key_attestations_required":{}}}},"real-person":{"format":"dc+sd-jwt",` +
			`"vct":"https://id.example/vct/real-person/1","scope":"real-person","cryptographic_binding_methods_supported":["jwk"],"credential_signing_alg_values_supported":["ES256"],` +
			`"proof_types_supported":{"jwt":{"proof_signing_alg_values_supported":["ES256"],"key_attestations_required":{}}}}},` +
			`"status_lists":["https://id.example/status/0","https://id.example/status/1","https://id.example/status/2","https://id.example/status/3"],` +
			`"offer_request_endpoint":"https://id.example/offer"}`,
		issuer.PathServer: `{"issuer":"https://id.example","token_endpoint":"https://id.example/token",` +
			`"grant_types_supported":["urn:ietf:params:oauth:grant-type:pre-authorized_code"],"pre-authorized_grant_anonymous_access_supported":true}`,
	} {
		a, err := o.http.Get(o.url + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil || string(b) != want {
			t.Errorf("%s: %s", path, b)
		}
	}
	// Bad input of every kind is told apart, and nothing comes of it.
	for _, q := range []struct {
		path, media, token, body string
		status                   int
		code                     string
	}{
		{issuer.PathOffer, "text/plain", "", "x", http.StatusUnsupportedMediaType, "invalid_request"},
		{issuer.PathOffer, "application/jwt", "", "x", http.StatusBadRequest, "invalid_proof"},
		{issuer.PathOffer, "application/jwt", "", strings.Repeat("x", 64<<10), http.StatusRequestEntityTooLarge, "invalid_request"},
		{issuer.PathToken, "application/x-www-form-urlencoded", "", "grant_type=password", http.StatusBadRequest, "unsupported_grant_type"},
		{issuer.PathToken, "application/x-www-form-urlencoded", "", "a=1&a=2", http.StatusBadRequest, "invalid_request"},
		{issuer.PathToken, "application/x-www-form-urlencoded", "", "%zz", http.StatusBadRequest, "invalid_request"},
		{issuer.PathCredential, "application/json", "", "{}", http.StatusUnauthorized, "invalid_token"},
		{issuer.PathCredential, "application/json", "t", "{", http.StatusBadRequest, "invalid_credential_request"},
		{issuer.PathCredential, "application/json", "t", "{}", http.StatusBadRequest, "invalid_proof"},
		{issuer.PathCredential, "application/json", "t", `{"credential_configuration_id":"x","proofs":{"jwt":["a"]}}`, http.StatusBadRequest, "unknown_credential_configuration"},
		{issuer.PathCredential, "application/json", "t", `{"credential_configuration_id":"real-person","proofs":{"jwt":["a"]}}`, http.StatusUnauthorized, "invalid_token"},
	} {
		status, answer, _ := o.call(q.path, q.media, q.token, []byte(q.body))
		o.refuses(q.path+" "+q.body[:min(len(q.body), 40)], status, answer, q.status, q.code)
	}
}

// Without an issuer in the policy nobody issues; an address with a path is none.
func TestNoIssuer(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ServeIssuer(t.Context(), l); err == nil || r.Issues() {
		t.Error(err)
	}
	for _, id := range []string{"", "http://id.example", "https://id.example/", "https://id.example/path", "https://", "https://a@id.example"} {
		if _, err := registry.InitIssuer(w.RegistryDir(), id, time.Now()); err == nil {
			t.Errorf("%q is taken", id)
		}
	}
	if _, err := os.Stat(filepath.Join(w.RegistryDir(), "issuer.key")); err == nil {
		t.Error("a key was made")
	}
}

// What the issuer keeps: whole transactions, one at a time; what has expired can be
// swept; whose DID ends, their record is marked, until it is lifted.
func testIssuerStore(s shop) {
	st, now := s.Issuer(), time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	put := func(k issuer.Kind, key, value string, expires time.Time) {
		s.Helper()
		s.must(st.Change(s.Context(), func(tx issuer.Tx) error { return tx.Put(k, []byte(key), []byte(value), expires) }))
	}
	get := func(k issuer.Kind, key []byte) (value string) {
		s.Helper()
		s.must(st.Read(s.Context(), func(tx issuer.Tx) error {
			b, err := tx.Get(k, key)
			value = string(b)
			return err
		}))
		return value
	}
	put(issuer.KindSecret, "", "s", time.Time{})
	put(issuer.KindOffer, "a", "1", now)
	put(issuer.KindOffer, "a", "2", now)
	put(issuer.KindOffer, "b", "3", now.Add(time.Hour))
	put(issuer.KindToken, "a", "4", time.Time{})
	is(s, "values", []string{get(issuer.KindSecret, nil), get(issuer.KindOffer, []byte("a")), get(issuer.KindOffer, []byte("b")), get(issuer.KindToken, []byte("a")), get(issuer.KindToken, []byte("b"))},
		[]string{"s", "2", "3", "4", ""})
	failed := fmt.Errorf("no")
	if err := st.Change(s.Context(), func(tx issuer.Tx) error {
		if err := tx.Put(issuer.KindOffer, []byte("c"), []byte("5"), time.Time{}); err != nil {
			return err
		}
		return failed
	}); err != failed {
		s.Error(err)
	}
	is(s, "after a failure", get(issuer.KindOffer, []byte("c")), "")
	var keys [][]byte
	s.must(st.Change(s.Context(), func(tx issuer.Tx) (err error) {
		if err := tx.Sweep(now.Add(time.Minute), 10); err != nil {
			return err
		}
		keys, err = tx.First(issuer.KindOffer, 10)
		return err
	}))
	is(s, "what is left", keys, [][]byte{[]byte("b")})
	s.must(st.Change(s.Context(), func(tx issuer.Tx) error { return tx.Delete(issuer.KindToken, []byte("a")) }))
	is(s, "deleted", get(issuer.KindToken, []byte("a")), "")

	// Counting one by one loses nothing.
	var counting sync.WaitGroup
	for range 8 {
		counting.Go(func() {
			if err := st.Change(s.Context(), func(tx issuer.Tx) error {
				b, err := tx.Get(issuer.KindUsed, []byte("n"))
				if err != nil {
					return err
				}
				return tx.Put(issuer.KindUsed, []byte("n"), append(bytes.Clone(b), 'x'), time.Time{})
			}); err != nil {
				s.Error(err)
			}
		})
	}
	counting.Wait()
	is(s, "counted", get(issuer.KindUsed, []byte("n")), "xxxxxxxx")

	holder, old, next := registrytest.NewDevice(s), registrytest.NewDevice(s), registrytest.NewDevice(s)
	code := [16]byte{7}
	brought := s.make(registrytest.Spec{Holder: &holder, Payload: withCode(code)})
	replaced := s.make(registrytest.Spec{Holder: &old})
	s.add(nil, brought, replaced)
	marked := func(sub record.Submission) string { id := sub.ID(); return get(issuer.KindEnded, id[:]) }
	is(s, "in good standing", marked(brought)+marked(replaced), "")
	s.add(nil, s.make(registrytest.Spec{Purpose: record.Replace, Holder: &next, Old: &old}))
	is(s, "replaced", marked(replaced), "\x01")
	if _, done, err := s.Cancel(s.Context(), record.CancelHash(code[:]), now, now.Add(time.Hour)); err != nil || !done {
		s.Fatal(done, err)
	}
	is(s, "suspended", marked(brought), "\x01")
	if _, err := s.ResolveCancellation(s.Context(), didOf(s, holder), registry.CancelLifted, registry.Resolution{By: "desk", Reason: "found", Time: now}); err != nil {
		s.Fatal(err)
	}
	is(s, "lifted", marked(brought), "")
	s.add(nil, s.revoke(holder))
	is(s, "revoked", marked(brought), "\x01")
}

// An index that was given is not given again; when there is none left, the citizen is
// told to come back, and nothing is used up.
func TestFullStatusLists(t *testing.T) {
	t.Parallel()
	o := newOffice(t, false)
	z := o.enroll(adult, "C01X00T47")
	fill := func(pattern byte) {
		t.Helper()
		o.running.stop()
		s, err := registry.OpenStore(t.Context(), registry.Options{Dir: o.options.Dir}, registrytest.Origin)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Issuer().Change(t.Context(), func(tx issuer.Tx) error {
			for list := range byte(4) {
				if err := tx.Put(issuer.KindUsed, []byte{list, 0, 0, 0, 0}, bytes.Repeat([]byte{pattern}, 512), time.Time{}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	fill(0x55) // the even ones are given
	o.open()
	for _, i := range z.collect(issuer.RealPerson, 30) {
		if i.Status().Index%2 == 0 {
			t.Errorf("%d is given again", i.Status().Index)
		}
	}
	fill(0xFF)
	o.open()
	token, keys := z.access(), newKeys(t, 1)
	body := z.request(issuer.RealPerson, keys)
	status, answer, _ := o.call(issuer.PathCredential, "application/json", token, body)
	o.refuses("full", status, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	fill(0)
	o.open()
	if status, _, raw := o.call(issuer.PathCredential, "application/json", token, body); status != http.StatusOK {
		t.Errorf("the same request when there is room again: %d %s", status, raw)
	}
}
