package issuer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"
)

var b64 = base64.RawURLEncoding.Strict()

// nonceTime is how long a nonce may be used.
const nonceTime = 5 * time.Minute

// loadSecret reads the key of nonces, or makes it: all processes on one store share
// it.
func (i *Issuer) loadSecret(ctx context.Context) error {
	return i.Store.Change(ctx, func(tx Tx) error {
		b, err := tx.Get(KindSecret, nil)
		if err != nil {
			return err
		}
		if len(b) == len(i.secret) {
			copy(i.secret[:], b)
			return nil
		}
		rand.Read(i.secret[:])
		return tx.Put(KindSecret, nil, i.secret[:], time.Time{})
	})
}

const nonceSize = 8 + 16 + 16 // time, random, MAC

// postNonce gives a c_nonce (OpenID4VCI 1.0, 7). Anybody may ask: nothing is kept.
func (i *Issuer) postNonce(w http.ResponseWriter, _ *http.Request) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, nonceSize), uint64(i.Now().Unix()))
	b = append(b, random(16)...)
	answer(w, http.StatusOK, struct {
		Nonce string `json:"c_nonce"`
	}{b64.EncodeToString(append(b, i.mac(b)...))})
}

func (i *Issuer) mac(b []byte) []byte {
	m := hmac.New(sha256.New, i.secret[:])
	m.Write([]byte("enrollkiosk/nonce/v1"))
	m.Write(b)
	return m.Sum(nil)[:16]
}

// given says whether a nonce is ours and young.
func (i *Issuer) given(nonce string) bool {
	b, err := b64.DecodeString(nonce)
	if err != nil || len(b) != nonceSize || !hmac.Equal(b[24:], i.mac(b[:24])) {
		return false
	}
	age := i.Now().Sub(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
	return age >= -time.Second && age < nonceTime
}

// use uses a nonce up; false if it was used before.
func (i *Issuer) use(tx Tx, nonce string) (bool, error) {
	old, err := tx.Get(KindNonce, []byte(nonce))
	if err != nil || old != nil {
		return false, err
	}
	return true, tx.Put(KindNonce, []byte(nonce), []byte{1}, i.Now().Add(2*nonceTime))
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func hash(s string) []byte {
	d := sha256.Sum256([]byte(s))
	return d[:]
}
