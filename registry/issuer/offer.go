package issuer

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"enrollkiosk/registry/credential"
	"enrollkiosk/registry/record"
)

const (
	offerTime  = 5 * time.Minute
	tokenTime  = 10 * time.Minute
	offerTries = 5  // wrong claim codes that end an offer
	claimTries = 10 // wrong claim codes that lock a record's
)

// offer waits for its code.
type offer struct {
	DID     string    `json:"did"`
	Record  [32]byte  `json:"record"`
	Claim   bool      `json:"claim"` // the claim code is wanted
	Tries   int       `json:"tries"`
	Expires time.Time `json:"expires"`
}

// grant is what an access token stands for.
type grant struct {
	DID     string    `json:"did"`
	Record  [32]byte  `json:"record"`
	Done    []string  `json:"done,omitempty"` // configurations that were issued
	Expires time.Time `json:"expires"`
}

// claim is what is remembered of a record's claim code.
type claim struct {
	Claimed bool `json:"claimed"` // the code was given: from now on the enrolled key is enough
	Wrong   int  `json:"wrong"`
}

func getJSON(tx Tx, k Kind, key []byte, into any) (bool, error) {
	b, err := tx.Get(k, key)
	if err != nil || b == nil {
		return false, err
	}
	return true, json.Unmarshal(b, into)
}

func putJSON(tx Tx, k Kind, key []byte, v any, expires time.Time) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(k, key, b, expires)
}

// Credential offer (OpenID4VCI 1.0, 4.1.1).
type (
	offerWire struct {
		Issuer         string   `json:"credential_issuer"`
		Configurations []string `json:"credential_configuration_ids"`
		Grants         grants   `json:"grants"`
	}
	grants struct {
		PreAuthorized preAuthorized `json:"urn:ietf:params:oauth:grant-type:pre-authorized_code"`
	}
	preAuthorized struct {
		Code   string      `json:"pre-authorized_code"`
		TxCode *txCodeWire `json:"tx_code,omitempty"`
	}
	txCodeWire struct {
		Mode   string `json:"input_mode"`
		Length int    `json:"length"`
	}
)

// postOffer gives an offer to the holder of an enrolled key. The first time, the
// claim code from the paper must follow.
func (i *Issuer) postOffer(w http.ResponseWriter, q *http.Request) {
	b, err := read(w, q, mediaJWT, maxSmall)
	if err == nil {
		var out offerWire
		if out, err = i.offer(q.Context(), string(b)); err == nil {
			answer(w, http.StatusOK, out)
			return
		}
	}
	i.fail(w, PathOffer, err)
}

func (i *Issuer) offer(ctx context.Context, jwt string) (out offerWire, err error) {
	var h Holder
	asked, err := credential.VerifyOfferRequest(jwt, i.Signer.ID, i.Now(), func(did string) (crypto.PublicKey, error) {
		if h, err = i.Records.Holder(ctx, did); err != nil {
			return nil, err
		}
		return record.ParseDIDKey(did)
	})
	switch {
	case errors.Is(err, ErrNoHolder):
		return out, refused{no(http.StatusForbidden, denied, "no active enrollment for this token: ask at a police station"), err}
	case err != nil:
		return out, proofProblem(err)
	case !i.given(asked.Nonce()):
		return out, proofProblem(credential.ErrNonce)
	}
	code := b64.EncodeToString(random(16))
	out = offerWire{i.Signer.ID, []string{RealPerson, LegalName}, grants{preAuthorized{Code: code}}}
	err = i.Store.Change(ctx, func(tx Tx) error {
		if fresh, err := i.use(tx, asked.Nonce()); err != nil {
			return err
		} else if !fresh {
			return proofProblem(credential.ErrNonce)
		}
		var c claim
		if _, err := getJSON(tx, KindClaim, h.Record[:], &c); err != nil {
			return err
		}
		if !c.Claimed && c.Wrong >= claimTries {
			return no(http.StatusForbidden, denied, "the claim code is locked: a police station can help")
		}
		if !c.Claimed {
			out.Grants.PreAuthorized.TxCode = &txCodeWire{"text", len(record.ClaimCode([32]byte{1}))}
		}
		until := i.Now().Add(offerTime)
		if err := tx.Sweep(i.Now(), sweepAtOnce); err != nil {
			return err
		}
		return putJSON(tx, KindOffer, hash(code), offer{asked.DID(), h.Record, !c.Claimed, 0, until}, until)
	})
	return out, err
}

// sweepAtOnce is how much of what has expired each new offer clears away: more than
// it makes.
const sweepAtOnce = 16

type tokenWire struct {
	Token   string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"` // seconds
}

// postToken takes a pre-authorized code, once, and the claim code where one is
// wanted (OpenID4VCI 1.0, 6.1).
func (i *Issuer) postToken(w http.ResponseWriter, q *http.Request) {
	b, err := read(w, q, mediaForm, maxSmall)
	if err == nil {
		var out tokenWire
		if out, err = i.token(q.Context(), string(b)); err == nil {
			answer(w, http.StatusOK, out)
			return
		}
	}
	i.fail(w, PathToken, err)
}

func (i *Issuer) token(ctx context.Context, form string) (out tokenWire, err error) {
	values, err := url.ParseQuery(form)
	if err != nil {
		return out, refused{no(http.StatusBadRequest, invalidRequest, "the form is malformed"), err}
	}
	for name, v := range values {
		if len(v) != 1 {
			return out, no(http.StatusBadRequest, invalidRequest, name+" is given twice")
		}
	}
	if values.Get("grant_type") != grantType {
		return out, no(http.StatusBadRequest, unsupportedGrant, "use "+grantType)
	}
	code, typed := values.Get("pre-authorized_code"), values.Get("tx_code")
	wrongCode := no(http.StatusBadRequest, invalidGrant, "the offer has expired or was used: ask for a new one")
	token := b64.EncodeToString(random(32))
	h, err := i.holderOf(ctx, code)
	if err != nil {
		return out, err
	}
	var verdict error
	err = i.Store.Change(ctx, func(tx Tx) error {
		verdict = nil
		var o offer
		known, err := getJSON(tx, KindOffer, hash(code), &o)
		if err != nil {
			return err
		}
		if !known || !i.Now().Before(o.Expires) {
			verdict = wrongCode
			return nil
		}
		if o.Claim {
			right, err := i.claim(tx, h, &o, typed)
			if err != nil {
				return err
			}
			if !right { // the count is kept
				verdict = no(http.StatusBadRequest, invalidGrant, "the claim code is not right: compare it with the paper")
				if o.Tries >= offerTries {
					return tx.Delete(KindOffer, hash(code))
				}
				return putJSON(tx, KindOffer, hash(code), o, o.Expires)
			}
		}
		until := i.Now().Add(tokenTime)
		return errors.Join(tx.Delete(KindOffer, hash(code)), putJSON(tx, KindToken, hash(token), grant{o.DID, o.Record, nil, until}, until))
	})
	return tokenWire{token, "Bearer", seconds(tokenTime)}, errors.Join(err, verdict)
}

// holderOf is who an offer was made to; zero if there is no such offer.
func (i *Issuer) holderOf(ctx context.Context, code string) (h Holder, err error) {
	var o offer
	known := false
	if err := i.Store.Read(ctx, func(tx Tx) error {
		known, err = getJSON(tx, KindOffer, hash(code), &o)
		return err
	}); err != nil || !known {
		return h, err
	}
	h, err = i.Records.Holder(ctx, o.DID)
	if errors.Is(err, ErrNoHolder) || err == nil && h.Record != o.Record {
		return h, errDenied(ErrNoHolder)
	}
	return h, err
}

// claim compares the claim code and counts. A record whose code is locked is
// refused.
func (i *Issuer) claim(tx Tx, h Holder, o *offer, typed string) (right bool, err error) {
	var c claim
	if _, err := getJSON(tx, KindClaim, o.Record[:], &c); err != nil {
		return false, err
	}
	if c.Wrong >= claimTries {
		return false, no(http.StatusForbidden, denied, "the claim code is locked: a police station can help")
	}
	if right = h.Record == o.Record && record.IsClaimCode(typed, h.Cancel); right {
		c = claim{Claimed: true}
	} else {
		c.Wrong++
		o.Tries++
	}
	return right, putJSON(tx, KindClaim, o.Record[:], c, time.Time{})
}
