package registry_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/record"
)

// Each bad record gets its code in a signed verdict, the same bytes when it is
// sent again, and the next good one is taken on.
func TestRejections(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	predecessor := w.Kiosk(t, "KIOSK-0001") // of the same id, before it got other keys
	k := w.Kiosk(t, "KIOSK-0001")
	other := w.Kiosk(t, "KIOSK-0002")
	c := connect(t, w, r.URL, k.TLS)
	stranger := registrytest.NewCA(t, "Officers").Officer(t, "4711", nil)
	expired := w.Officers.Officer(t, "4712", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	nameless := w.Officers.Officer(t, "", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "A Person"} })
	encrypting := w.Officers.Officer(t, "4713", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	lookalike := w.Lookalike(t)
	holder := registrytest.NewDevice(t)
	used := k.Make(t, registrytest.Spec{Holder: &holder})
	if v := c.send(used); v.Status != api.Pending {
		t.Fatalf("%+v", v)
	}
	unknown := registrytest.NewDevice(t)

	wall := func(d time.Duration) func(*record.Payload) {
		return func(p *record.Payload) {
			p.Times.Wall = p.Times.Wall.Add(d)
			p.Times.Registry = p.Times.Wall.Add(-time.Hour)
		}
	}
	for _, c1 := range []struct {
		name string
		spec registrytest.Spec
		code string
	}{
		{"another registry's", registrytest.Spec{Context: func(c *record.Context) { c.Audience = "elsewhere.example/log" }}, record.CodeAudience},
		{"before the policy", registrytest.Spec{Payload: wall(-2 * time.Hour)}, api.CodePolicy},
		{"consent missing", registrytest.Spec{Payload: func(p *record.Payload) { p.Purposes[0].ID = "other" }}, api.CodePolicy},
		{"consent to older words", registrytest.Spec{Payload: func(p *record.Payload) { p.Purposes[0].Version = 2 }}, api.CodePolicy},
		{"from the future", registrytest.Spec{Payload: wall(25 * time.Hour)}, api.CodeTime},
		{"before what the kiosk heard", registrytest.Spec{Payload: func(p *record.Payload) { p.Times.Wall = p.Times.Wall.Add(-26 * time.Hour) }}, api.CodeTime},
		{"offline too long", registrytest.Spec{Payload: func(p *record.Payload) { p.Times.Registry = p.Times.Wall.AddDate(0, 0, -31) }}, api.CodeTime},
		{"never heard, a year back", registrytest.Spec{Payload: func(p *record.Payload) {
			p.Times.Wall, p.Times.Registry = p.Times.Wall.AddDate(-1, 0, 0), time.Time{}
		}}, api.CodeTime},
		{"never heard since long ago", registrytest.Spec{Payload: func(p *record.Payload) { p.Times.Registry = time.Time{} }}, api.CodeTime},
		{"another kiosk's id", registrytest.Spec{Context: func(c *record.Context) { c.KioskID = other.ID }}, api.CodeReplay},
		{"another kiosk's key", registrytest.Spec{Kiosk: other}, api.CodeKiosk},
		{"the kiosk's earlier key", registrytest.Spec{Kiosk: predecessor}, api.CodeKiosk},
		{"unknown officer", registrytest.Spec{Officer: &stranger}, api.CodeOfficer},
		{"expired officer", registrytest.Spec{Officer: &expired}, api.CodeOfficer},
		{"officer without a number", registrytest.Spec{Officer: &nameless}, api.CodeOfficer},
		{"officer's other certificate", registrytest.Spec{Officer: &encrypting}, api.CodeOfficer},
		{"unknown maker", registrytest.Spec{Attest: func(own *registrytest.CA, _ *x509.Certificate) { *own = lookalike }}, api.CodeAttestation},
		{"another slot", registrytest.Spec{Attest: func(_ *registrytest.CA, c *x509.Certificate) { c.Subject.CommonName = "YubiKey PIV Attestation 9d" }}, api.CodeAttestation},
		{"old firmware", registrytest.Spec{Attest: func(_ *registrytest.CA, c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{5, 2, 2} }}, api.CodeAttestation},
		{"revoked token", registrytest.Spec{Attest: func(_ *registrytest.CA, c *x509.Certificate) { c.ExtraExtensions[1].Value = []byte{2, 2, 2, 154} }}, api.CodeAttestation},
		{"key without touch", registrytest.Spec{Attest: func(_ *registrytest.CA, c *x509.Certificate) { c.ExtraExtensions[2].Value = []byte{2, 1} }}, api.CodeAttestation},
		{"class made nicer", registrytest.Spec{Payload: func(p *record.Payload) { p.Holder.Class = record.Production }}, api.CodeAttestation},
		{"key of another record", registrytest.Spec{Holder: &holder}, api.CodeDuplicateKey},
		{"fork", registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }}, api.CodeFork},
		{"update of an unknown did", registrytest.Spec{Purpose: record.Update}, api.CodeHolder},
		{"replacement of an unknown did", registrytest.Spec{Purpose: record.Replace, Old: &unknown}, api.CodeHolder},
		{"revocation of an unknown did", registrytest.Spec{Purpose: record.Revoke, Context: func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }}, api.CodeHolder},
	} {
		t.Run(c1.name, func(t *testing.T) {
			c := client{t, c.url, c.http}
			s := k.Make(t, c1.spec)
			first := c.rejected(w, item(s), c1.code)
			if again := c.rejected(w, item(s), c1.code); again != first {
				t.Errorf("another answer the second time:\n%+v\n%+v", first, again)
			}
			if status, err := c.record(s.ID()); err != nil || status.Status != api.Rejected || status.Verdict != first.Verdict || status.Code != c1.code {
				t.Errorf("status %+v, %v", status, err)
			}
			if v := c.send(k.Make(t, registrytest.Spec{})); v.Status != api.Pending {
				t.Errorf("the next record: %+v", v)
			}
		})
	}
}

// The same at the same time, over and over: one record is taken on once, one
// rejection is signed once.
func TestSameAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	good, bad := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Audience = "elsewhere.example/log" }})
	const n = 8 // places that one kiosk has
	verdicts := make(chan []api.ItemVerdict, n)
	for range n {
		go func() {
			var result api.BatchResult
			if a, err := c.http.Post(c.url+api.PathRecords, api.MediaJSON, bytes.NewReader(batch(item(bad), item(good)))); err == nil {
				result, err = api.Decode[api.BatchResult](a.Body)
				a.Body.Close()
				if err != nil {
					t.Error(err)
				}
			}
			verdicts <- result.Verdicts
		}()
	}
	rejections := map[string]bool{}
	for range n {
		v := <-verdicts
		if len(v) != 2 || v[0].Status != api.Rejected || v[1].Status != api.Pending && v[1].Status != api.Accepted {
			t.Fatalf("%+v", v)
		}
		rejections[v[0].Verdict] = true
	}
	if len(rejections) != 1 {
		t.Errorf("%d rejections of one record", len(rejections))
	}
	c.until(good.ID(), "receipt", hasReceipt)
	r.stop()
	if found := leaves(t, w); len(found) != 1 || found[leafOf(good)] != 1 {
		t.Errorf("log %v", found)
	}
}

// What is wrong with a record's own bytes is found, whatever byte it is.
func TestChangedRecordIsRejected(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	whole := s.Bytes()

	change := func(name, code string, b []byte) {
		t.Helper()
		// Under ids of their own, so that each is looked at.
		var id api.ID
		rand.Read(id[:])
		v := c.post(api.Item{ID: id, Submission: b})[0]
		if v.Status != api.Rejected || code != "" && v.Code != code {
			t.Errorf("%s: %s %s, want rejected %s", name, v.Status, v.Code, code)
		}
	}
	change("under another id", api.CodeID, whole)
	change("white space added", record.CodeCanonical, append(slices.Clone(whole), '\n'))
	change("white space inside", record.CodeCanonical, bytes.Replace(whole, []byte(`,"record"`), []byte(`, "record"`), 1))
	change("member added", record.CodeCanonical, bytes.Replace(whole, []byte(`{"attestation"`), []byte(`{"also":1,"attestation"`), 1))
	change("member in capitals", record.CodeCanonical, bytes.Replace(whole, []byte(`"payload"`), []byte(`"PAYLOAD"`), 1))
	change("unprotected header", record.CodeCanonical, bytes.Replace(whole, []byte(`{"protected"`), []byte(`{"header":{"role":"officer"},"protected"`), 1))
	signatures := bytes.Index(whole, []byte(`"signatures":[`)) + len(`"signatures":[`)
	end := bytes.IndexByte(whole[signatures:], '}') + 2 // and the comma
	change("a signature removed", "", slices.Concat(whole[:signatures], whole[signatures+end:]))
	change("attestation removed", "", slices.Concat([]byte("{"), whole[bytes.Index(whole, []byte(`"record"`)):]))
	change("nothing", "", []byte("{}"))
	var items []api.Item
	for at := 7; at < len(whole); at += len(whole) / 150 {
		b := slices.Clone(whole)
		b[at] ^= 1
		var id api.ID
		rand.Read(id[:])
		items = append(items, api.Item{ID: id, Submission: b})
	}
	for chunk := range slices.Chunk(items, 40) {
		for _, v := range c.post(chunk...) {
			if v.Status != api.Rejected {
				t.Errorf("one byte changed: %+v", v)
			}
		}
	}
	// All of that was under other ids and does not stick to the record.
	if v := c.send(s); v.Status != api.Pending {
		t.Errorf("the record itself: %+v", v)
	}
}

// Records of a kiosk whose clock is somewhat wrong are taken on: time is bounded
// by what the registry said and by receipt. Nobody can reach back before what
// the registry said.
func TestWrongClocks(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	retired := w.Officers.Officer(t, "4712", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-30 * time.Minute) })
	times := func(wall, heard time.Duration) func(*record.Payload) {
		return func(p *record.Payload) {
			now := time.Now().UTC().Truncate(time.Second)
			p.Times.Wall, p.Times.Registry = now.Add(wall), now.Add(heard)
		}
	}
	for name, spec := range map[string]registrytest.Spec{
		"ahead":                 {Payload: times(3*time.Hour, -time.Minute)},
		"behind":                {Payload: times(-3*time.Hour, -time.Minute)},
		"officer then in force": {Payload: times(-40*time.Minute, -50*time.Minute), Officer: &retired},
	} {
		if v := c.send(k.Make(t, spec)); v.Status != api.Pending {
			t.Errorf("%s: %+v", name, v)
		}
	}
	c.rejected(w, item(k.Make(t, registrytest.Spec{Payload: times(-40*time.Minute, -20*time.Minute), Officer: &retired})), api.CodeOfficer)
}

// Each item of a batch has its own verdict.
func TestBadItemsDoNotSpoilGoodOnes(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	good, forged := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	broken := forged.Bytes()
	broken[len(broken)/2] ^= 1
	last := k.Make(t, registrytest.Spec{})
	// The fork within one batch: the first of its number wins.
	twin := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = last.Record().Payload().Context.Sequence }})
	got := map[api.ID]api.Status{}
	for _, v := range c.post(item(good), api.Item{ID: forged.ID(), Submission: broken}, item(last), item(twin)) {
		got[v.ID] = v.Status
	}
	for name, want := range map[string]struct {
		s      record.Submission
		status api.Status
	}{"good": {good, api.Pending}, "broken": {forged, api.Rejected}, "last": {last, api.Pending}, "fork": {twin, api.Rejected}} {
		if got[want.s.ID()] != want.status {
			t.Errorf("%s: %s, want %s", name, got[want.s.ID()], want.status)
		}
	}
}

// Nobody can have another kiosk's record rejected beforehand, see its status, or
// send it.
func TestKiosksAreApart(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k, hostile := w.Kiosk(t, "KIOSK-0001"), w.Kiosk(t, "KIOSK-0002")
	c, h := connect(t, w, r.URL, k.TLS), connect(t, w, r.URL, hostile.TLS)
	s := k.Make(t, registrytest.Spec{})
	h.rejected(w, item(s), api.CodeReplay)
	h.rejected(w, api.Item{ID: s.ID(), Submission: []byte("{}")}, api.CodeReplay) // what was said first
	if v := c.send(s); v.Status != api.Pending {
		t.Fatalf("the kiosk's own sending: %+v", v)
	}
	if status, err := c.record(s.ID()); err != nil || status.Status != api.Pending {
		t.Errorf("the kiosk's own question: %+v, %v", status, err)
	}
	if status, err := h.record(s.ID()); err != nil || status.Status != api.Rejected {
		t.Errorf("the other's question: %+v, %v", status, err)
	}
	third := connect(t, w, r.URL, w.Kiosk(t, "KIOSK-0003").TLS)
	third.problem(http.MethodGet, api.PathRecords+"/"+api.ID(s.ID()).String(), "", nil, http.StatusNotFound, api.CodeNotFound)
}

func TestStanding(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	body := batch(item(s))

	// Without a certificate: nothing but what is public.
	nobody := connect(t, w, r.URL)
	nobody.problem(http.MethodPost, api.PathRecords, api.MediaJSON, body, http.StatusForbidden, api.CodeNoKiosk)
	nobody.problem(http.MethodGet, api.PathRecords+"/"+api.ID(s.ID()).String(), "", nil, http.StatusForbidden, api.CodeNoKiosk)

	// A certificate of another authority ends in the handshake.
	foreign := registrytest.NewCA(t, "Kiosks of "+registrytest.Origin)
	mine := foreign.Officer(t, "1", func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: k.ID}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	fake := connect(t, w, r.URL, tls.Certificate{Certificate: mine.Chain, PrivateKey: mine.PrivateKey})
	if a, err := fake.http.Post(r.URL+api.PathRecords, api.MediaJSON, bytes.NewReader(body)); err == nil {
		a.Body.Close()
		t.Errorf("a foreign certificate got as far as %d", a.StatusCode)
	}
	// The record key's certificate is not for TLS.
	if a, err := connect(t, w, r.URL, tls.Certificate{Certificate: k.Chain, PrivateKey: k.Record.PrivateKey}).http.Post(r.URL+api.PathRecords, api.MediaJSON, bytes.NewReader(body)); err == nil {
		defer a.Body.Close()
		if a.StatusCode != http.StatusForbidden {
			t.Errorf("the record key's certificate got %d", a.StatusCode)
		}
	}
	// A certificate of the right authority for a kiosk that is not on the register, or has other keys now.
	earlier := k.TLS
	k = w.Kiosk(t, "KIOSK-0001")
	connect(t, w, r.URL, earlier).problem(http.MethodPost, api.PathRecords, api.MediaJSON, body, http.StatusForbidden, api.CodeNoKiosk)

	c := connect(t, w, r.URL, k.TLS)
	first := k.Make(t, registrytest.Spec{})
	if v := c.send(first); v.Status != api.Pending {
		t.Fatalf("%+v", v)
	}
	kiosks := registry.KiosksIn(w.RegistryDir())
	if err := kiosks.Revoke(t.Context(), k.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	// On the same connection, at once: signed, for each record that its key has signed.
	late := k.Make(t, registrytest.Spec{})
	verdict := c.rejected(w, item(late), api.CodeKioskRevoked)
	if again := c.rejected(w, item(late), api.CodeKioskRevoked); again != verdict {
		t.Errorf("another answer the second time: %+v", again)
	}
	if v := c.send(first); v.Status == api.Rejected {
		t.Errorf("what was taken on before: %+v", v)
	}
	// What it has not signed is not kept, and may come another way.
	holder := registrytest.NewDevice(t)
	for _, it := range []api.Item{{ID: api.ID{1}, Submission: []byte("{}")}, item(w.Kiosk(t, "KIOSK-0002").Make(t, registrytest.Spec{})),
		item(k.Make(t, registrytest.Spec{Purpose: record.Revoke, Holder: &holder, Context: func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }}))} {
		if v := c.post(it)[0]; v.Status != api.Retry || v.Code != api.CodeNoKiosk || v.RetryAfter < 60 {
			t.Errorf("not its own: %+v", v)
		}
	}
	c.problem(http.MethodGet, api.PathRecords+"/"+api.ID(first.ID()).String(), "", nil, http.StatusForbidden, api.CodeNoKiosk)
	if err := kiosks.Revoke(t.Context(), "KIOSK-0404", time.Now()); !errors.Is(err, registry.ErrUnknownKiosk) {
		t.Errorf("revoke an unknown kiosk: %v", err)
	}
	if _, err := kiosks.Find(t.Context(), "../kiosks/KIOSK-0001"); !errors.Is(err, registry.ErrUnknownKiosk) {
		t.Errorf("an id that is a path: %v", err)
	}
}

// A production registry takes nothing that rests on a single test root, and
// everything that rests on none.
func TestProductionRefusesSimulated(t *testing.T) {
	for _, simulated := range []string{registrytest.TPMs, registrytest.KioskCA, registrytest.OfficerCA, registrytest.PIVRoots, ""} {
		t.Run(simulated, func(t *testing.T) {
			t.Parallel()
			w := registrytest.New(t)
			w.Production(t, simulated)
			o := w.RegistryOptions(noVault)
			o.Production = true
			r := serve(t, o)
			k := w.Kiosk(t, "KIOSK-0001")
			c := connect(t, w, r.URL, k.TLS)
			s := k.Make(t, registrytest.Spec{})
			if simulated != "" {
				c.rejected(w, item(s), api.CodeSimulated)
			} else if v := c.send(s); v.Status != api.Pending {
				t.Errorf("nothing simulated: %+v", v)
			}
		})
	}
}

// A policy that the registry does not have yet is no reason to refuse a record
// for good: with the policy, the same record is taken on.
func TestUnknownPolicyIsNoVerdict(t *testing.T) {
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	next := w.Sign(t, 2, time.Now().Add(-time.Minute))
	s := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.PolicyDigest = next.Digest() }})
	if v := connect(t, w, r.URL, k.TLS).send(s); v.Status != api.Retry || v.Code != api.CodeUnknownPolicy || v.RetryAfter == 0 {
		t.Errorf("before the policy: %+v", v)
	}
	r.stop()
	w.Policy = next
	r = serve(t, w.RegistryOptions(noVault))
	if v := connect(t, w, r.URL, k.TLS).send(s); v.Status != api.Pending {
		t.Errorf("with the policy: %+v", v)
	}
}

// A lost card ends with the policy that says so, also for a kiosk that has not
// got that policy; what was made with it before stands, and so does the
// officer's next card.
func TestLostOfficersCard(t *testing.T) {
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	lost, next := w.Officer, w.Officers.Officer(t, "4711", nil)
	earlier := k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) { p.Times.Wall = p.Times.Wall.Add(-30 * time.Minute) }})
	serve(t, w.RegistryOptions(noVault)).stop() // has the first policy
	old := w.Policy.Digest()
	w.Policy = w.Revoke(t, 2, time.Now().Add(-10*time.Minute), lost)
	r := serve(t, w.RegistryOptions(noVault))
	c := connect(t, w, r.URL, k.TLS)
	under := func(c *record.Context) { c.PolicyDigest = old }
	c.rejected(w, item(k.Make(t, registrytest.Spec{Officer: &lost})), api.CodeOfficerRevoked)
	c.rejected(w, item(k.Make(t, registrytest.Spec{Officer: &lost, Context: under})), api.CodeOfficerRevoked)
	for name, s := range map[string]record.Submission{"earlier": earlier, "next card": k.Make(t, registrytest.Spec{Officer: &next})} {
		if v := c.send(s); v.Status != api.Pending {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// DIDs come, are renewed, replaced and end.
func TestLifeOfADID(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	first, second, third := registrytest.NewDevice(t), registrytest.NewDevice(t), registrytest.NewDevice(t)
	none := func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }
	for i, step := range []struct {
		spec registrytest.Spec
		code string
	}{
		{registrytest.Spec{Holder: &first}, ""},
		{registrytest.Spec{Purpose: record.Update, Holder: &first}, ""},
		{registrytest.Spec{Purpose: record.Replace, Holder: &second, Old: &first}, ""},
		{registrytest.Spec{Purpose: record.Update, Holder: &first}, api.CodeHolder},
		{registrytest.Spec{Purpose: record.Replace, Holder: &third, Old: &first}, api.CodeHolder},
		{registrytest.Spec{Purpose: record.Replace, Holder: &first, Old: &second}, api.CodeDuplicateKey},
		{registrytest.Spec{Purpose: record.Revoke, Holder: &second, Context: none}, ""},
		{registrytest.Spec{Purpose: record.Revoke, Holder: &second, Context: none}, api.CodeHolder},
		{registrytest.Spec{Purpose: record.Void}, ""},
	} {
		s := k.Make(t, step.spec)
		if step.code != "" {
			c.rejected(w, item(s), step.code)
		} else if v := c.send(s); v.Status != api.Pending {
			t.Errorf("step %d: %+v", i, v)
		} else if status := c.until(s.ID(), "receipt", hasReceipt); status.Status != api.Pending {
			t.Errorf("step %d: %+v", i, status)
		}
	}
}

// Gaps in a kiosk's sequence are taken on, late ones fill them, and each is said.
func TestGapsAreTakenOnAndCounted(t *testing.T) {
	w := registrytest.New(t)
	o := w.RegistryOptions(noVault)
	logged := &lines{}
	o.Log = logged.logger()
	r := serve(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	one, two, three, four := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	for _, s := range []record.Submission{one, four, two, three} {
		if v := c.send(s); v.Status != api.Pending {
			t.Errorf("%+v", v)
		}
	}
	if n := strings.Count(logged.String(), "gap in a kiosk's sequence"); n != 1 || !strings.Contains(logged.String(), "missing=2") {
		t.Errorf("%d gaps said:\n%s", n, logged)
	}
	if gaps, err := registry.Gaps(r.Registry, k.ID); err != nil || gaps != 0 {
		t.Errorf("gaps %d, %v", gaps, err)
	}
}
