package issuer

import (
	"context"
	"encoding/binary"
	"net/http"
	"strconv"
	"time"

	"enrollkiosk/registry/credential"
)

// published is a list as it is served, until the next.
type published struct {
	token string
	next  time.Time
}

func (i *Issuer) statusURI(list uint8) string {
	return i.Signer.ID + PathStatus + strconv.Itoa(int(list))
}

// getStatus serves a status list token. It is the same for everybody until the next
// fixed time: what was revoked meanwhile appears together.
func (i *Issuer) getStatus(w http.ResponseWriter, q *http.Request) {
	n, err := strconv.ParseUint(q.PathValue("list"), 10, 8)
	if err != nil || n >= uint64(i.Lists) || q.PathValue("list") != strconv.FormatUint(n, 10) {
		i.fail(w, PathStatus, no(http.StatusNotFound, invalidRequest, "there is no such list"))
		return
	}
	p, err := i.list(q.Context(), uint8(n))
	if err != nil {
		i.fail(w, PathStatus, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", credential.StatusListMediaType)
	h.Set("Cache-Control", "max-age="+strconv.FormatInt(max(0, seconds(p.next.Sub(i.Now()))), 10))
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write([]byte(p.token))
}

func (i *Issuer) list(ctx context.Context, n uint8) (published, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.Now()
	if p, ok := i.published[n]; ok && now.Before(p.next) {
		return p, nil
	}
	bits := make([]byte, 0, i.Size/8)
	if err := i.Store.Read(ctx, func(tx Tx) error {
		bits = bits[:0]
		for c := range i.Size / cellBits {
			cell, err := tx.Get(KindRevoked, binary.BigEndian.AppendUint32([]byte{n}, c))
			if err != nil {
				return err
			}
			if cell == nil {
				cell = make([]byte, cellBits/8)
			}
			bits = append(bits, cell...)
		}
		return nil
	}); err != nil {
		return published{}, err
	}
	at := now.Truncate(i.Publish)
	token, err := i.Signer.SignStatusList(credential.StatusToken{URI: i.statusURI(n), IssuedAt: at, Expires: at.Add(credential.MaxStatusAge),
		TTL: min(i.Publish, credential.MaxStatusTTL), List: credential.StatusListOf(bits)})
	if err != nil {
		return published{}, err
	}
	p := published{token, at.Add(i.Publish)}
	i.published[n] = p
	return p, nil
}

const (
	revokeTurn  = 5 * time.Second
	revokeBatch = 64 // records
)

// Run revokes the credentials of records whose DID has ended, until ctx ends. What
// is to be done is in the store.
func (i *Issuer) Run(ctx context.Context) {
	for {
		n, err := i.revoke(ctx)
		if err != nil && ctx.Err() == nil {
			i.Log.Error("credentials are not revoked, will be tried again", "error", err)
		}
		if n == revokeBatch && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(revokeTurn):
		}
	}
}

// revoke turns the bits of some ended records' credentials. The vault opens the
// places and mixes them; they are forgotten in the transaction that turns the bits.
func (i *Issuer) revoke(ctx context.Context) (n int, err error) {
	var ended [][]byte
	var sealed []Sealed
	if err := i.Store.Read(ctx, func(tx Tx) error {
		ended, sealed = nil, nil
		keys, err := tx.First(KindEnded, revokeBatch)
		if err != nil {
			return err
		}
		for _, id := range keys {
			all, err := tx.Get(KindLinks, id)
			if err != nil {
				return err
			}
			ended = append(ended, append([]byte(nil), id...))
			for ; len(all) >= credential.SealedLinks; all = all[credential.SealedLinks:] {
				sealed = append(sealed, Sealed{[32]byte(id), append([]byte(nil), all[:credential.SealedLinks]...)})
			}
		}
		return nil
	}); err != nil || len(ended) == 0 {
		return 0, err
	}
	var links []credential.Link
	if len(sealed) > 0 {
		if links, err = i.Vault.Places(ctx, sealed); err != nil {
			return 0, err
		}
	}
	turned := map[string]int{}
	for _, s := range sealed {
		turned[string(s.Record[:])] += len(s.Bytes)
	}
	err = i.Store.Change(ctx, func(tx Tx) error {
		for _, l := range links {
			if l.List >= i.Lists || l.Index >= i.Size {
				i.Log.Error("a place beyond the status lists", "list", l.List, "index", l.Index)
				continue
			}
			if _, err := setBit(tx, KindRevoked, l); err != nil {
				return err
			}
		}
		for _, id := range ended {
			if err := closeRecord(tx, id, turned[string(id)]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		i.Log.Info("credentials revoked", "records", len(ended), "number", len(links))
	}
	return len(ended), err
}

// closeRecord forgets the places that were revoked: the first so many bytes. A record
// whose suspension was lifted meanwhile is open for new credentials.
func closeRecord(tx Tx, id []byte, size int) error {
	all, err := tx.Get(KindLinks, id)
	if err != nil {
		return err
	}
	if size > len(all) {
		size = len(all)
	}
	if rest := all[size:]; len(rest) > 0 {
		err = tx.Put(KindLinks, id, append([]byte(nil), rest...), time.Time{})
	} else {
		err = tx.Delete(KindLinks, id)
	}
	if err != nil {
		return err
	}
	ended, err := tx.Get(KindEnded, id)
	if err != nil || ended == nil {
		return err
	}
	if err := tx.Delete(KindEnded, id); err != nil {
		return err
	}
	return tx.Put(KindClosed, id, []byte{1}, time.Time{})
}
