package issuer

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/record"
)

// answerTime is how long a request that is sent again gets the same answer.
const answerTime = 10 * time.Minute

// credentialRequest is what is read of a request (OpenID4VCI 1.0, 8.2).
type credentialRequest struct {
	configuration string
	proofs        []string
}

func parseRequest(b []byte) (r credentialRequest, err error) {
	o, err := credential.ParseObject(b, 4)
	if err != nil {
		return r, refused{no(http.StatusBadRequest, invalidRequestVC, "the request is no JSON"), err}
	}
	r.configuration, _ = o.Text("credential_configuration_id")
	proofs, _ := o.Object("proofs")
	var ok bool
	if r.proofs, ok = proofs.Texts("jwt"); !ok || len(proofs) != 1 || len(r.proofs) == 0 {
		return r, no(http.StatusBadRequest, invalidProof, "send proofs of type jwt")
	}
	for _, name := range []string{"credential_identifier", "credential_response_encryption"} {
		if _, there := o[name]; there {
			return r, no(http.StatusBadRequest, invalidRequestVC, name+" is not supported")
		}
	}
	return r, nil
}

type credentialsWire struct {
	Credentials []credentialWire `json:"credentials"`
}

type credentialWire struct {
	Credential string `json:"credential"`
}

// postCredential issues a batch.
func (i *Issuer) postCredential(w http.ResponseWriter, q *http.Request) {
	b, err := read(w, q, mediaJSON, maxBody)
	if err != nil {
		i.fail(w, PathCredential, err)
		return
	}
	scheme, token, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		i.fail(w, PathCredential, no(http.StatusUnauthorized, invalidToken, "send the access token"))
		return
	}
	select {
	case i.turns <- struct{}{}:
		defer func() { <-i.turns }()
	default:
		i.fail(w, PathCredential, errAgain)
		return
	}
	out, err := i.issue(q.Context(), token, b)
	if err != nil {
		i.fail(w, PathCredential, err)
		return
	}
	send(w, http.StatusOK, out)
}

// errRepeated ends a transaction of a request that was answered meanwhile.
var errRepeated = errors.New("issuer: answered meanwhile")

// issue answers a request for a batch. Indices are given in a transaction of their
// own: what fails afterwards costs some, and nothing else.
func (i *Issuer) issue(ctx context.Context, token string, body []byte) ([]byte, error) {
	keep := answerKeys(token, body)
	if old, err := i.answered(ctx, keep); err != nil || old != nil {
		return old, err
	}
	request, err := parseRequest(body)
	if err != nil {
		return nil, err
	}
	claims := i.configurations()[request.configuration]
	if claims.VCT == "" {
		return nil, no(http.StatusBadRequest, unknownConfig, "there is no such credential")
	}
	g, err := i.grant(ctx, token)
	if err != nil {
		return nil, err
	}
	proven, nonce, err := i.prove(ctx, g, request.proofs)
	if err != nil {
		return nil, err
	}
	said, err := i.Vault.Claims(ctx, g.Record, request.configuration == LegalName)
	if errors.Is(err, ErrNoHolder) {
		return nil, errDenied(err)
	}
	if err != nil {
		return nil, err
	}
	links, err := i.allocate(ctx, len(proven))
	if err != nil {
		return nil, err
	}
	out, err := i.sign(claims.VCT, claimsOf(request.configuration, said), g.Record, proven, links)
	if err != nil {
		return nil, err
	}
	sealed, err := credential.SealLinks(i.authority, i.Authority.ID, g.Record, links)
	if err != nil {
		return nil, err
	}
	err = i.Store.Change(ctx, func(tx Tx) error {
		return i.keep(tx, token, request.configuration, nonce, proven, sealed, keep, out)
	})
	if errors.Is(err, errRepeated) {
		return i.answered(ctx, keep)
	}
	if err != nil {
		return nil, err
	}
	i.Log.Info("credentials issued", "configuration", request.configuration, "number", len(links))
	return out, nil
}

func errDenied(cause error) error {
	return refused{no(http.StatusForbidden, denied, "no active enrollment for this token: ask at a police station"), cause}
}

// grant is what a token stands for.
func (i *Issuer) grant(ctx context.Context, token string) (g grant, err error) {
	known := false
	err = i.Store.Read(ctx, func(tx Tx) error {
		known, err = getJSON(tx, KindToken, hash(token), &g)
		return err
	})
	if err == nil && (!known || !i.Now().Before(g.Expires)) {
		err = no(http.StatusUnauthorized, invalidToken, "the access token has expired: ask for a new offer")
	}
	return g, err
}

// prove verifies the proofs under the holder's enrolled key. No key may be one that
// was enrolled.
func (i *Issuer) prove(ctx context.Context, g grant, proofs []string) (keys []*ecdsa.PublicKey, nonce string, err error) {
	if len(proofs) > i.Batch {
		return nil, "", no(http.StatusBadRequest, invalidProof, "too many proofs")
	}
	h, err := i.Records.Holder(ctx, g.DID)
	if errors.Is(err, ErrNoHolder) || err == nil && h.Record != g.Record {
		return nil, "", errDenied(ErrNoHolder)
	}
	if err != nil {
		return nil, "", err
	}
	enrolled, err := record.ParseDIDKey(g.DID)
	if err != nil {
		return nil, "", err
	}
	p, err := credential.VerifyProofs(proofs, credential.ExpectBatch{Issuer: i.Signer.ID, DID: g.DID, Key: enrolled, Now: i.Now(),
		Nonce: func(n string) bool { nonce = n; return i.given(n) }}) // used up in keep
	if err != nil {
		return nil, "", proofProblem(err)
	}
	for _, k := range p.Keys() {
		did, err := record.DIDKey(k)
		if err != nil {
			return nil, "", err
		}
		if _, err := i.Records.Holder(ctx, did); err == nil {
			return nil, "", no(http.StatusBadRequest, invalidProof, "an enrolled key takes no credential")
		} else if !errors.Is(err, ErrNoHolder) {
			return nil, "", err
		}
	}
	return p.Keys(), nonce, nil
}

func claimsOf(configuration string, c Claims) map[string]any {
	if configuration == LegalName {
		return map[string]any{credential.FamilyName: c.FamilyName, credential.GivenName: c.GivenName, credential.NameLocal: c.NameLocal}
	}
	return map[string]any{credential.RealNameVerified: true,
		credential.AgeOver14: c.Over14, credential.AgeOver16: c.Over16, credential.AgeOver18: c.Over18}
}

// sign makes the answer.
func (i *Issuer) sign(vct string, claims map[string]any, id [32]byte, keys []*ecdsa.PublicKey, links []credential.Link) ([]byte, error) {
	out := credentialsWire{}
	expires := credential.Expiry(i.Now().Add(i.Life))
	for n, k := range keys {
		c := credential.Content{Type: vct, Expires: expires, Key: k, Claims: claims,
			Status: credential.StatusRef{URI: i.statusURI(links[n].List), Index: uint64(links[n].Index)}}
		var err error
		if c.Escrow, err = credential.SealEscrow(i.authority, i.Authority.ID, c.EscrowData(i.Signer.ID), id); err != nil {
			return nil, err
		}
		compact, err := i.Signer.Issue(c)
		if err != nil {
			return nil, err
		}
		out.Credentials = append(out.Credentials, credentialWire{compact})
	}
	return json.Marshal(out)
}

// allocate takes free indices by chance, in lists by chance, so that neither tells
// of when or for whom they were given.
func (i *Issuer) allocate(ctx context.Context, n int) (links []credential.Link, err error) {
	err = i.Store.Change(ctx, func(tx Tx) error {
		links = links[:0]
		for len(links) < n {
			l, err := i.take(tx)
			if err != nil {
				return err
			}
			links = append(links, l)
		}
		return nil
	})
	return links, err
}

// takeTries bounds the search: in lists that are three quarters full it fails once in
// a hundred million.
const takeTries = 64

func (i *Issuer) take(tx Tx) (credential.Link, error) {
	for range takeTries {
		l := credential.Link{List: uint8(number(uint64(i.Lists))), Index: uint32(number(uint64(i.Size)))}
		if fresh, err := setBit(tx, KindUsed, l); err != nil || fresh {
			return l, err
		}
	}
	return credential.Link{}, ErrFull
}

func number(below uint64) uint64 {
	n, err := rand.Int(rand.Reader, new(big.Int).SetUint64(below))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n.Uint64()
}

// cellBits are kept in one value: a batch then writes some kilobytes, and a value
// that was written tells of a few thousand indices that one of them was given.
const cellBits = 4096

// setBit sets a bit; fresh says that it was not set.
func setBit(tx Tx, k Kind, l credential.Link) (fresh bool, err error) {
	key := binary.BigEndian.AppendUint32([]byte{l.List}, l.Index/cellBits)
	cell, err := tx.Get(k, key)
	if err != nil {
		return false, err
	}
	if cell == nil {
		cell = make([]byte, cellBits/8)
	}
	cell = bytes.Clone(cell)
	at, bit := l.Index%cellBits/8, byte(1)<<(l.Index%8)
	if cell[at]&bit != 0 {
		return false, nil
	}
	cell[at] |= bit
	return true, tx.Put(k, key, cell, time.Time{})
}

// keep remembers a batch in one transaction, in which everything that could have
// changed since is looked at again.
func (i *Issuer) keep(tx Tx, token, configuration, nonce string, keys []*ecdsa.PublicKey, sealed []byte, keep answerKey, out []byte) error {
	if old, err := tx.Get(KindAnswer, keep.id[:]); err != nil {
		return err
	} else if old != nil {
		return errRepeated
	}
	var g grant
	if known, err := getJSON(tx, KindToken, hash(token), &g); err != nil {
		return err
	} else if !known || !i.Now().Before(g.Expires) || slices.Contains(g.Done, configuration) {
		return no(http.StatusUnauthorized, invalidToken, "the access token was used: ask for a new offer")
	}
	for _, k := range []Kind{KindEnded, KindClosed} {
		if ended, err := tx.Get(k, g.Record[:]); err != nil {
			return err
		} else if ended != nil {
			return errDenied(ErrNoHolder)
		}
	}
	if fresh, err := i.use(tx, nonce); err != nil {
		return err
	} else if !fresh {
		return proofProblem(credential.ErrNonce)
	}
	for _, k := range keys {
		if err := newKey(tx, k); err != nil {
			return err
		}
	}
	old, err := tx.Get(KindLinks, g.Record[:])
	if err != nil {
		return err
	}
	g.Done = append(g.Done, configuration)
	until := i.Now().Add(answerTime)
	return errors.Join(
		tx.Put(KindLinks, g.Record[:], slices.Concat(old, sealed), time.Time{}),
		putJSON(tx, KindToken, hash(token), g, g.Expires),
		tx.Put(KindAnswer, keep.id[:], append(binary.BigEndian.AppendUint64(nil, uint64(until.Unix())), keep.seal(out)...), until))
}

// Hashes of keys are kept without a word of whose they are, many in one value, so
// that not even the order of rows tells which came together.
const keyRest = 14 // bytes of a hash, behind the two that find its place

func newKey(tx Tx, k *ecdsa.PublicKey) error {
	print := credential.Thumbprint(k)
	h := sha256.Sum256(append([]byte("enrollkiosk/site-key/v1"), print[:]...))
	place, rest := h[:2], h[2:2+keyRest]
	all, err := tx.Get(KindKeys, place)
	if err != nil {
		return err
	}
	at := 0
	for ; at < len(all); at += keyRest {
		switch bytes.Compare(all[at:at+keyRest], rest) {
		case 0:
			return no(http.StatusBadRequest, invalidProof, "a key has a credential already: derive others")
		case 1:
			return tx.Put(KindKeys, place, slices.Concat(all[:at], rest, all[at:]), time.Time{})
		}
	}
	return tx.Put(KindKeys, place, slices.Concat(all, rest), time.Time{})
}

// answerKey finds an answer again, and opens it: only whoever has token and request
// can.
type answerKey struct{ id, key [32]byte }

func answerKeys(token string, body []byte) answerKey {
	d := sha256.Sum256(body)
	both := append(hash(token), d[:]...)
	return answerKey{
		sha256.Sum256(append([]byte("enrollkiosk/answer/v1"), both...)),
		sha256.Sum256(append([]byte("enrollkiosk/answer-key/v1"), append([]byte(token), d[:]...)...)),
	}
}

func (k answerKey) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (k answerKey) seal(out []byte) []byte { return k.aead().Seal(nil, nil, out, k.id[:]) }

// answered is the answer that a request got, nil if none.
func (i *Issuer) answered(ctx context.Context, k answerKey) (out []byte, err error) {
	err = i.Store.Read(ctx, func(tx Tx) error {
		b, err := tx.Get(KindAnswer, k.id[:])
		if err != nil || len(b) < 8 || !i.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(b)), 0)) {
			return err
		}
		out, err = k.aead().Open(nil, nil, b[8:], k.id[:])
		return err
	})
	return out, err
}
