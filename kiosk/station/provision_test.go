package station_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/pcscd"
	sim "enrollkiosk/simulators/tpm"
	"enrollkiosk/sync/client"
)

// scene is a machine that is no kiosk yet, and a registry that runs.
type scene struct {
	*stage.Stage
	t *testing.T
}

func newScene(t *testing.T) scene {
	t.Helper()
	dir, err := os.MkdirTemp("", "p") // short: sockets will be in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	daemon, err := pcscd.Listen(filepath.Join(dir, "pcscd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { daemon.Close() })
	s, err := stage.New(t.Context(), daemon, dir, stage.Options{Unprovisioned: true})
	if err == nil {
		err = s.StartRegistry(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.Config.Trust = station.TrustConfig{} // the code says whom to trust
	return scene{s, t}
}

func (s scene) code() api.Code {
	s.t.Helper()
	c, err := s.NewCode(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// approves is a person at the registry who compares what the kiosk shows.
func (s scene) approves(step station.ProvisionStep, fingerprint string) {
	if step != station.StepWait {
		return
	}
	if _, err := s.Kiosks().Approve(s.t.Context(), stage.KioskID, fingerprint, time.Now()); err != nil {
		s.t.Errorf("approve: %v", err)
	}
}

func (s scene) provision(code api.Code, progress func(station.ProvisionStep, string)) (station.Provisioned, error) {
	return station.Provision(s.t.Context(), s.Config, station.ProvisionOptions{Code: code, Wait: 20 * time.Second, Progress: progress})
}

func (s scene) kept(name string) []byte {
	b, _ := os.ReadFile(filepath.Join(s.Config.Kiosk.State, name))
	return b
}

// works opens the kiosk as its agent does.
func (s scene) works() error {
	k, err := station.Open(s.t.Context(), s.Config, station.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return k.Close()
}

var quiet = func(station.ProvisionStep, string) {}

func refusedWith(err error, code string) bool {
	var refused *client.ProvisionRefused
	return errors.As(err, &refused) && refused.Code == code
}

// With nothing but a code a machine becomes a kiosk; what it has to trust comes
// with it. It can be done again at any time, and changes nothing.
func TestProvision(t *testing.T) {
	s := newScene(t)
	if err := s.works(); !errors.Is(err, station.ErrNotProvisioned) {
		t.Errorf("before: %v", err)
	}
	code := s.code()
	var steps []station.ProvisionStep
	done, err := s.provision(code, func(step station.ProvisionStep, fingerprint string) {
		steps = append(steps, step)
		s.approves(step, fingerprint)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 5 || done.KioskID != stage.KioskID || !done.Until.After(time.Now()) {
		t.Errorf("%v %+v", steps, done)
	}
	if err := s.works(); err != nil {
		t.Error(err)
	}
	certificates := s.kept("certificates.json")
	for name, code := range map[string]api.Code{"same code": code, "new code": s.code()} {
		again, err := s.provision(code, func(step station.ProvisionStep, _ string) {
			if step == station.StepWait {
				t.Errorf("%s: it waits for approval again", name)
			}
		})
		if name == "same code" && refusedWith(err, api.CodeProvisionCode) {
			continue // a new code ends the earlier one
		}
		if err != nil || again != done || !bytes.Equal(certificates, s.kept("certificates.json")) {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
	}
	if _, err := s.provision(code, quiet); !refusedWith(err, api.CodeProvisionCode) {
		t.Errorf("the earlier code: %v", err)
	}
	// What configuration says of the authority must agree.
	s.Config.Trust.Root = strings.Repeat("00", 32)
	if err := s.works(); !errors.Is(err, station.ErrOtherAuthority) {
		t.Errorf("another root in the configuration: %v", err)
	}
	if _, err := s.provision(s.code(), quiet); !errors.Is(err, station.ErrOtherAuthority) {
		t.Errorf("provisioned against the configuration: %v", err)
	}
	s.Config.Trust.Root = ""
	// And a code of another authority changes nothing.
	dir := filepath.Join(s.Dir, "other-vault")
	keys, err := vault.Init(dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := vault.SignPolicy(t.Context(), dir, filepath.Join(s.Dir, "policy.toml"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other := newImpostor(t, signed, nil)
	s.Config.Registry.URL = other.URL
	if _, err := s.provision(api.NewCode(keys.RootHash, other.key()), quiet); !errors.Is(err, station.ErrOtherAuthority) || other.begun.Load() != 0 {
		t.Errorf("another authority's code: %v", err)
	}
	if err := s.works(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Cut off at any step and at any file, it is run again and ends well.
func TestProvisionCutOff(t *testing.T) {
	s := newScene(t)
	code := s.code()
	for _, at := range []station.ProvisionStep{station.StepConnect, station.StepKeys, station.StepProve, station.StepWait} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := station.Provision(ctx, s.Config, station.ProvisionOptions{Code: code, Wait: time.Minute, Progress: func(step station.ProvisionStep, _ string) {
			if step == at {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) || s.kept("certificates.json") != nil || s.kept("authority-root") != nil {
			t.Errorf("cut off at %s: %v", at, err)
		}
	}
	if _, err := s.provision(code, s.approves); err != nil {
		t.Fatal(err)
	}
	// Power cuts between the files that install writes, the last of them first.
	for _, gone := range []string{"certificates.json", "policy.jws", "authority-root"} {
		if err := os.Remove(filepath.Join(s.Config.Kiosk.State, gone)); err != nil {
			t.Fatal(err)
		}
		if err := s.works(); !errors.Is(err, station.ErrNotProvisioned) {
			t.Errorf("without %s: %v", gone, err)
		}
	}
	if _, err := s.provision(code, s.approves); err != nil {
		t.Fatal(err)
	}
	if err := s.works(); err != nil {
		t.Error(err)
	}
}

// Nobody decides: the kiosk gives up waiting and loses nothing. The registry is
// started anew meanwhile: the kiosk begins again by itself.
func TestProvisionWaits(t *testing.T) {
	s := newScene(t)
	code := s.code()
	if _, err := station.Provision(t.Context(), s.Config, station.ProvisionOptions{Code: code, Progress: quiet}); !errors.Is(err, station.ErrWaiting) {
		t.Errorf("nobody approves: %v", err)
	}
	waits := 0
	if _, err := s.provision(code, func(step station.ProvisionStep, fingerprint string) {
		if step != station.StepWait {
			return
		}
		if waits++; waits == 1 {
			if err := errors.Join(s.StopRegistry(), s.StartRegistry(t.Context())); err != nil {
				t.Error(err)
			}
			return
		}
		s.approves(step, fingerprint)
	}); err != nil || waits != 2 {
		t.Errorf("waited %d times: %v", waits, err)
	}
	if err := s.Kiosks().Revoke(t.Context(), stage.KioskID, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.provision(code, quiet); !refusedWith(err, api.CodeProvisionRevoked) {
		t.Errorf("revoked: %v", err)
	}
}

func TestProvisionRejected(t *testing.T) {
	s := newScene(t)
	_, err := s.provision(s.code(), func(step station.ProvisionStep, _ string) {
		if step == station.StepWait {
			if err := s.Kiosks().Reject(t.Context(), stage.KioskID); err != nil {
				t.Error(err)
			}
		}
	})
	if !refusedWith(err, api.CodeProvisionRejected) || s.kept("certificates.json") != nil {
		t.Errorf("%v", err)
	}
}

// A disk that was copied to another machine: its keys do not work there, and
// under the same id the machine gets no new ones.
func TestClonedDisk(t *testing.T) {
	s := newScene(t)
	dir := filepath.Join(s.Dir, "other-tpm")
	if err := sim.Manufacture(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	other, err := sim.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Stop() })
	if _, err := s.provision(s.code(), s.approves); err != nil {
		t.Fatal(err)
	}
	clone := s
	clone.Stage = &stage.Stage{Dir: s.Dir, Config: s.Config}
	clone.Config.TPM.Path = other.Path()
	clone.Config.Kiosk.State = filepath.Join(s.Dir, "clone")
	if err := os.CopyFS(clone.Config.Kiosk.State, os.DirFS(s.Config.Kiosk.State)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(clone.Config.Kiosk.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := clone.works(); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("the copy starts: %v", err)
	}
	if _, err := clone.provision(s.code(), quiet); !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("the copy is provisioned: %v", err)
	}
	clone.Config.Kiosk.State = filepath.Join(s.Dir, "fresh")
	if _, err := clone.provision(s.code(), quiet); !refusedWith(err, api.CodeProvisionOtherTPM) {
		t.Errorf("another machine under the same id: %v", err)
	}
	if err := s.works(); err != nil {
		t.Errorf("the kiosk itself: %v", err)
	}
}

// impostor is a registry with a key of its own choice, that hands out a policy
// and challenges.
type impostor struct {
	*httptest.Server
	asked atomic.Int32
	begun atomic.Int32
}

func newImpostor(t *testing.T, signed []byte, challenge any) *impostor {
	t.Helper()
	i := &impostor{}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		i.asked.Add(1)
		switch q.URL.Path {
		case api.PathPolicy:
			w.Header().Set("Content-Type", api.MediaJOSE)
			w.Write(signed)
		case api.PathProvisionBegin:
			i.begun.Add(1)
			w.Header().Set("Content-Type", api.MediaJSON)
			json.NewEncoder(w).Encode(challenge)
		default:
			t.Errorf("asked for %s", q.URL.Path)
		}
	}))
	i.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	i.StartTLS()
	t.Cleanup(i.Close)
	return i
}

func (i *impostor) key() [32]byte { return api.KeyHash(i.Certificate().RawSubjectPublicKeyInfo) }

// Who does not have the registry's TLS key gets nothing; who has it, but another
// authority's policy or an old challenge, gets no proof and is not pinned.
func TestFakeRegistry(t *testing.T) {
	s := newScene(t)
	code := s.code()
	_, root, err := policy.ParseShort(s.Policy.Bytes(), code.Root)
	if err != nil {
		t.Fatal(err)
	}
	nothingKept := func(what string) {
		t.Helper()
		for _, name := range []string{"authority-root", "policy.jws", "certificates.json"} {
			if s.kept(name) != nil {
				t.Errorf("%s: %s is kept", what, name)
			}
		}
	}
	fake := s
	fake.Stage = &stage.Stage{Dir: s.Dir, Config: s.Config}

	other := newImpostor(t, s.Policy.Bytes(), nil)
	fake.Config.Registry.URL = other.URL
	if _, err := fake.provision(code, quiet); !errors.Is(err, client.ErrTLS) || other.asked.Load() != 0 {
		t.Errorf("another TLS key: %v, %d requests", err, other.asked.Load())
	}
	nothingKept("another TLS key")

	// Its key is in the code, its policy is another authority's.
	if _, err := fake.provision(api.Code{Secret: code.Secret, Root: [16]byte{1}, TLS: [16]byte(first(other.key()))}, quiet); !errors.Is(err, policy.ErrSignature) || other.begun.Load() != 0 {
		t.Errorf("another authority: %v", err)
	}
	nothingKept("another authority")

	// Its key and its authority are right; the policy is an old one.
	expired, err := vault.SignPolicy(t.Context(), filepath.Join(s.Dir, "vault"), filepath.Join(s.Dir, "policy.toml"), time.Now().AddDate(-1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	old := newImpostor(t, expired, nil)
	fake.Config.Registry.URL = old.URL
	if _, err := fake.provision(api.NewCode(root, old.key()), quiet); !errors.Is(err, policy.ErrExpired) || old.begun.Load() != 0 {
		t.Errorf("an old policy: %v", err)
	}
	nothingKept("an old policy")

	// It plays back a challenge that was made for another AK.
	keys, ak := endorsement(t, s)
	ak[4] ^= 1
	ek, err := attest.ParseEndorsementKey(keys[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	c, err := attest.MakeCredential(ek, ak, []byte("an old secret"))
	if err != nil {
		t.Fatal(err)
	}
	replay := newImpostor(t, s.Policy.Bytes(), api.ProvisionChallenge{Session: api.ID{1}, Blob: c.Blob, Encrypted: c.Secret, Nonce: make([]byte, 32)})
	fake.Config.Registry.URL = replay.URL
	if _, err := fake.provision(api.NewCode(root, replay.key()), quiet); !errors.Is(err, tpm.ErrCredential) || replay.begun.Load() != 1 {
		t.Errorf("an old challenge: %v", err)
	}
	nothingKept("an old challenge")
}

func first(hash [32]byte) []byte { return hash[:16] }

// endorsement is what the scene's TPM has, and the name of its AK.
func endorsement(t *testing.T, s scene) ([]tpm.EndorsementKey, []byte) {
	t.Helper()
	d, err := tpm.Open(t.Context(), tpm.Options{Path: s.TPM.Path(), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Init(t.Context(), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	keys, err := d.EndorsementKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ak, err := d.AttestationKey()
	if err != nil {
		t.Fatal(err)
	}
	return keys, ak.Name
}

// The authority takes another root key. A kiosk that pins the first is provisioned
// again with a code that names the second, a new one pins that; and a code that was
// given out before the change is still good.
func TestProvisionUnderTheNextRoot(t *testing.T) {
	s := newScene(t)
	if _, err := s.provision(s.code(), s.approves); err != nil {
		t.Fatal(err)
	}
	pinned := s.kept("authority-root")
	early := s.code()
	dir := filepath.Join(s.Dir, "vault")
	_, hash, err := vault.RotateRoot(t.Context(), dir, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next := func(text string) string { return strings.Replace(text, "version = 1", "version = 2", 1) }
	if err := errors.Join(s.StopRegistry(), s.SignPolicy(t.Context(), next), s.StartRegistry(t.Context())); err != nil {
		t.Fatal(err)
	}
	late := func() api.Code {
		c := s.code()
		if c.Root != [16]byte(hash[:16]) {
			t.Error("the code names the first root")
		}
		return c
	}
	for _, code := range []func() api.Code{func() api.Code { return early }, late} {
		if _, err := s.provision(code(), quiet); err != nil || !bytes.Equal(s.kept("authority-root"), pinned) {
			t.Errorf("provisioned again: %v", err)
		}
		if err := s.works(); err != nil {
			t.Errorf("provisioned again: %v", err)
		}
	}
	s.Config.Kiosk.State = filepath.Join(s.Dir, "anew")
	if _, err := s.provision(late(), s.approves); err != nil || !strings.HasPrefix(string(s.kept("authority-root")), hex.EncodeToString(hash[:])) {
		t.Errorf("a new disk: %v, pinned %s", err, s.kept("authority-root"))
	}
	if err := s.works(); err != nil {
		t.Error(err)
	}
}
