package station

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/client"
)

// Errors of unblocking a token, beside those of hsm, piv, tpm and client.
var (
	ErrAgentRuns  = errors.New("the agent runs and has the TPM: stop it, then run this again")
	ErrOtherToken = errors.New("another token than the one to unblock: put that one back")
	ErrNotHolders = errors.New("the token holds no citizen's key: there is nothing to unblock")
	ErrNoAdmin    = errors.New("nothing that the authority keeps administers this token: it was prepared anew since, and the citizen must be enrolled with a new one")
)

// UnblockDesk unblocks citizens' tokens at the service desk. It owns the TPM, as
// the agent does, so the agent must not run.
//
//	OpenUnblockDesk  TPM, certificates, the newest policy    the registry is reachable
//	Look             which token, whose key                  nothing is written
//	Ask              officer and TPM sign; the vault answers  counted there
//	Release.Unblock  the PIN, then PUK and management key    the token works again
type UnblockDesk struct {
	config Config
	tpm    *tpm.TPM
	record [][]byte // certificate chain of the record key
	policy policy.Signed
	client *client.Client
}

// OpenUnblockDesk opens what the desk needs and fetches the policy, so that a
// registry out of reach is known before anybody types a PIN. Errors wrap
// ErrAgentRuns, ErrNotProvisioned, policy.ErrExpired and those of tpm and client.
func OpenUnblockDesk(ctx context.Context, c Config) (_ *UnblockDesk, err error) {
	if err := wire.Ask(ctx, c.Kiosk.Socket, wire.Query{Kind: QueryHealth}, new(Health)); !errors.Is(err, wire.ErrNoAgent) {
		if err == nil || errors.Is(err, wire.ErrAnswer) {
			err = ErrAgentRuns
		}
		return nil, err
	}
	certs, err := c.certificates()
	if err != nil {
		return nil, err
	}
	policies, err := openPolicies(c)
	if err != nil {
		return nil, err
	}
	clock, err := openClock(c)
	if err != nil {
		return nil, err
	}
	d := &UnblockDesk{config: c, record: certs.Record}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.tpm, err = openTPM(ctx, c); err != nil {
		return nil, err
	}
	if err = d.tpm.Ready(); err != nil {
		return nil, err
	}
	if err = fits(certs, d.tpm); err != nil {
		return nil, err
	}
	if d.client, err = newClient(c, tls.Certificate{Certificate: certs.TLS, PrivateKey: hsm.Signer(d.tpm.TLSKey(), tpmTimeout)},
		policies, clock, nil, nil, nil); err != nil {
		return nil, err
	}
	if err = policies.refresh(ctx, d.client.Policy); err != nil {
		return nil, err
	}
	if d.policy, err = policies.current(); err != nil {
		return nil, err
	}
	return d, d.policy.CheckTime(time.Now())
}

// Close releases the TPM and the line.
func (d *UnblockDesk) Close() (err error) {
	if d.client != nil {
		d.client.Close()
	}
	if d.tpm != nil {
		err = d.tpm.Close()
	}
	return err
}

// BlockedToken is a token to unblock, blocked or not: what it says of itself.
type BlockedToken struct {
	Serial   uint32 `json:"serial"`
	DID      string `json:"did"` // of the key in 9A
	PINTries int    `json:"pin_tries"`
	PUKTries int    `json:"puk_tries"`
}

// Look reads the token in a reader. It needs no PIN and writes nothing.
//
// Errors: those of piv; ErrNotHolders, hsm.ErrPUKBlocked.
func Look(ctx context.Context, reader string) (BlockedToken, error) {
	t, err := piv.Open(ctx, reader)
	if err != nil {
		return BlockedToken{}, err
	}
	defer t.Close()
	return look(ctx, t)
}

func look(ctx context.Context, t *piv.Token) (BlockedToken, error) {
	info := t.Info()
	out := BlockedToken{Serial: info.Serial, PINTries: info.PINTries, PUKTries: info.PUKTries}
	der, err := t.Certificate(ctx, piv.Authentication)
	if errors.Is(err, piv.ErrNoCertificate) || errors.Is(err, piv.ErrNoKey) || info.FactoryNew {
		return out, ErrNotHolders
	}
	if err != nil {
		return out, err
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		out.DID, err = record.DIDKey(cert.PublicKey)
	}
	if err != nil {
		return out, fmt.Errorf("%w: %w", ErrNotHolders, err)
	}
	if info.PUKTries == 0 {
		return out, hsm.ErrPUKBlocked
	}
	return out, nil
}

// Release is what the vault has handed out for one token. It is to be wiped.
type Release struct {
	token      BlockedToken
	candidates []record.TokenAdmin // what the token may have: the enrolled one, then earlier ones, newest first
	next       record.TokenAdmin   // what it will have

	unblocked bool
	puk       secret.Text // of candidates, once it was the right one
}

// Ask has the officer's card, in a reader of its own, and this kiosk's TPM sign a
// request for what administers a token, and opens the vault's answer in the TPM.
// What the token will have is sealed to the authority in the request, before the
// token is written to.
//
// Errors: those of piv for the officer's card, kiosk.ErrOfficerUnknown, tpm's and
// client's, record's for an answer that does not open.
func (d *UnblockDesk) Ask(ctx context.Context, t BlockedToken, officerReader string, pin secret.Text) (_ *Release, err error) {
	keys, names, err := d.endorsements(ctx)
	if err != nil {
		return nil, err
	}
	ak, err := d.tpm.AttestationKey()
	if err != nil {
		return nil, err
	}
	p := d.policy.Policy()
	c := record.UnblockContext{Version: record.Version, Audience: p.LogOrigin, KioskID: d.config.Kiosk.ID, DID: t.DID, Serial: t.Serial,
		Time: time.Now().UTC().Truncate(time.Second), PolicyDigest: d.policy.Digest(), AuthorityKeyID: p.Authority.ID, EKNames: names, AKName: ak.Name}
	rand.Read(c.Nonce[:])
	r := &Release{token: t, next: record.TokenAdmin(kiosk.NewTokenAdmin())}
	defer func() {
		if err != nil {
			r.Wipe()
		}
	}()
	u, err := d.sign(ctx, c, r.next, officerReader, pin)
	if err != nil {
		return nil, err
	}
	answer, err := d.client.Unblock(ctx, u)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(names, func(n []byte) bool { return bytes.Equal(n, answer.EKName) })
	key, err := d.tpm.Activate(ctx, keys[i], hsm.TPMCredential{Blob: answer.Blob, Secret: answer.Encrypted})
	if err != nil {
		return nil, err
	}
	defer clear(key)
	r.candidates, err = record.OpenCandidates(key, u.ID(), answer.Ciphertext)
	return r, err
}

// endorsements are the TPM's endorsement keys with their names.
func (d *UnblockDesk) endorsements(ctx context.Context) (keys []tpm.EndorsementKey, names [][]byte, err error) {
	all, err := d.tpm.EndorsementKeys(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range all {
		parsed, err := attest.ParseEndorsementKey(k.Public)
		if err != nil {
			continue // the registry takes none such
		}
		keys, names = append(keys, k), append(names, parsed.Name())
	}
	if len(keys) == 0 {
		return nil, nil, tpm.ErrNoEndorsement
	}
	return keys, names, nil
}

// sign makes the request: the officer's card signs what it is about, the TPM that
// it comes from this kiosk.
func (d *UnblockDesk) sign(ctx context.Context, c record.UnblockContext, next record.TokenAdmin, officerReader string, pin secret.Text) (u record.Unblock, err error) {
	card, err := piv.Open(ctx, officerReader)
	if err != nil {
		return u, fmt.Errorf("officer's card: %w", err)
	}
	defer card.Close()
	der, err := card.Certificate(ctx, piv.Signature)
	if err != nil {
		return u, fmt.Errorf("%w: %w", kiosk.ErrOfficerUnknown, err)
	}
	p := d.policy.Policy()
	if _, err := kiosk.DeskOfficer(der, p, c.Time); err != nil {
		return u, err
	}
	officer, err := card.Key(ctx, piv.Signature, pin)
	if err != nil {
		return u, fmt.Errorf("officer's card: %w", err)
	}
	draft, err := record.NewUnblock(c, p.Authority, next, [][]byte{der}, d.record)
	if err != nil {
		return u, err
	}
	if err := draft.Sign(ctx, record.Desk, officer, [][]byte{der}); err != nil {
		return u, err
	}
	if err := draft.Sign(ctx, record.Kiosk, d.tpm.RecordKey(), d.record); err != nil {
		return u, err
	}
	return draft.Unblock()
}

// Unblock sets the citizen's new PIN on the token in a reader, and then the PUK and
// management key that are sealed in the request. After hsm.ErrRemoved it is called
// again, with the same PIN, once the token is back. Where it cannot be, the next
// request gets both the old and the new administrator.
//
// insist lets a PUK be sent although one try is left.
//
// Errors: ErrOtherToken, ErrNoAdmin, piv.ErrPINForm for a PIN that everybody tries
// first, *piv.WrongPUK, piv.ErrLastPUKTry, hsm.ErrPUKBlocked and the driver's.
func (r *Release) Unblock(ctx context.Context, reader string, pin secret.Text, insist bool) error {
	if kiosk.CheckPIN(pin) != kiosk.PINFine {
		return piv.ErrPINForm
	}
	t, err := piv.Open(ctx, reader)
	if err != nil {
		return err
	}
	defer t.Close()
	now, err := look(ctx, t)
	if err != nil {
		return err
	}
	if now.Serial != r.token.Serial || now.DID != r.token.DID {
		return ErrOtherToken
	}
	if r.unblocked && t.Authenticate(ctx, r.next.ManagementKey) == nil {
		return nil // interrupted after the last step
	}
	which, err := r.find(ctx, t)
	if err != nil {
		return err
	}
	if !r.unblocked {
		if r.puk, err = r.setPIN(ctx, t, which, pin, insist); err != nil {
			return err
		}
		r.unblocked = true
	}
	old := piv.Admin{PUK: r.puk, ManagementKey: r.candidates[which].ManagementKey}
	if insist {
		t.Insist()
	}
	return t.SetAdmin(ctx, old, piv.Admin(r.next))
}

// find is the candidate whose management key the token has: that costs no tries.
func (r *Release) find(ctx context.Context, t *piv.Token) (int, error) {
	for i, a := range r.candidates {
		err := t.Authenticate(ctx, a.ManagementKey)
		if !errors.Is(err, piv.ErrOtherAdmin) {
			return i, err
		}
	}
	return 0, ErrNoAdmin
}

// setPIN unblocks with the PUK that stands beside the token's management key. Where
// an earlier exchange of both was cut short between them, the token has the PUK of
// a later request, most likely of the newest.
func (r *Release) setPIN(ctx context.Context, t *piv.Token, which int, pin secret.Text, insist bool) (puk secret.Text, err error) {
	later := len(r.candidates) // of which the enrolled one, at 0, is the oldest
	if which > 0 {
		later = which
	}
	for _, a := range append([]record.TokenAdmin{r.candidates[which]}, r.candidates[1:later]...) {
		if insist {
			t.Insist()
		}
		err = t.Unblock(ctx, a.PUK, pin)
		var wrong *piv.WrongPUK
		if !errors.As(err, &wrong) {
			return a.PUK, err
		}
	}
	return secret.Text{}, err
}

// Wipe clears every secret.
func (r *Release) Wipe() {
	for _, a := range r.candidates {
		a.Wipe()
	}
	r.next.Wipe()
}
