package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"go.etcd.io/bbolt"

	"enrollkiosk/registry/credential"
	"enrollkiosk/relyingparty"
)

// account is all that the site knows of a member.
type account struct {
	Pseudonym string         `json:"pseudonym"` // relyingparty.Pseudonym's text: the key
	Name      string         `json:"name"`      // chosen by the member
	Since     time.Time      `json:"since"`
	Last      time.Time      `json:"last"` // sign-in
	Claims    map[string]any `json:"claims,omitempty"`
	LegalName string         `json:"legal_name,omitempty"` // shown on purpose
	StatusURI string         `json:"status_uri"`
	StatusIdx uint64         `json:"status_idx"`
	Evidence  []string       `json:"evidence"` // Issuer-signed JWTs: for the authority, where the law allows it
}

func newAccount(l relyingparty.Login, now time.Time) account {
	a := account{Pseudonym: l.Pseudonym().String(), Since: now}
	a.signedIn(l, now)
	return a
}

// signedIn keeps what the newest credentials say.
func (a *account) signedIn(l relyingparty.Login, now time.Time) {
	a.Last, a.Evidence = now, l.Evidence()
	a.StatusURI, a.StatusIdx = l.Status().URI, l.Status().Index
	a.Claims = map[string]any{}
	for name, value := range l.Claims() {
		if _, is := value.(bool); is {
			a.Claims[name] = value
		}
	}
	if full := strings.TrimSpace(l.Text(credential.GivenName) + " " + l.Text(credential.FamilyName)); full != "" {
		a.LegalName = full
	}
}

func (a account) status() credential.StatusRef {
	return credential.StatusRef{URI: a.StatusURI, Index: a.StatusIdx}
}

// session is a browser that is signed in: to an account, or to one that is being made.
type session struct {
	Pseudonym string    `json:"pseudonym"`
	New       *account  `json:"new,omitempty"` // until it has a name
	Until     time.Time `json:"until"`
}

const sessionTime = 12 * time.Hour

var (
	errNone  = errors.New("no such account or session")
	errName  = errors.New("a name has 2 to 40 letters, digits and spaces")
	errTaken = errors.New("this name is taken")
)

// members are the accounts and sessions, in one file.
type members struct{ db *bbolt.DB }

var (
	accountsBucket = []byte("accounts") // by pseudonym
	sessionsBucket = []byte("sessions") // by SHA-256 of the cookie
	namesBucket    = []byte("names")    // folded name -> pseudonym
)

func openMembers(file string) (*members, error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{accountsBucket, sessionsBucket, namesBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	return &members{db}, nil
}

func (m *members) close() error { return m.db.Close() }

func get(tx *bbolt.Tx, bucket, key []byte, v any) error {
	b := tx.Bucket(bucket).Get(key)
	if b == nil {
		return errNone
	}
	return json.Unmarshal(b, v)
}

func put(tx *bbolt.Tx, bucket, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(key, b)
}

// signIn opens a session under a new secret: for the account of the pseudonym, or
// for one that is to be made.
func (m *members) signIn(l relyingparty.Login, now time.Time) (secret string, err error) {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails: it ends the program instead
	s := session{Pseudonym: l.Pseudonym().String(), Until: now.Add(sessionTime)}
	err = m.db.Update(func(tx *bbolt.Tx) error {
		var a account
		switch err := get(tx, accountsBucket, []byte(s.Pseudonym), &a); {
		case errors.Is(err, errNone):
			a = newAccount(l, now)
			s.New = &a
		case err != nil:
			return err
		default:
			a.signedIn(l, now)
			if err := put(tx, accountsBucket, []byte(s.Pseudonym), a); err != nil {
				return err
			}
		}
		return put(tx, sessionsBucket, hash(raw), s)
	})
	return base64.RawURLEncoding.EncodeToString(raw), err
}

func hash(secret []byte) []byte { h := sha256.Sum256(secret); return h[:] }

// key is where the session of a cookie stands.
func key(secret string) []byte {
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(raw) != 32 {
		return nil
	}
	return hash(raw)
}

// member is who a cookie belongs to; registered is false until the account has a
// name.
func (m *members) member(secret string, now time.Time) (a account, registered bool, err error) {
	err = m.db.View(func(tx *bbolt.Tx) error {
		var s session
		k := key(secret)
		if k == nil {
			return errNone
		}
		if err := get(tx, sessionsBucket, k, &s); err != nil {
			return err
		}
		if !s.Until.After(now) {
			return errNone
		}
		if err := get(tx, accountsBucket, []byte(s.Pseudonym), &a); !errors.Is(err, errNone) {
			registered = err == nil
			return err
		}
		if s.New == nil {
			return errNone // deleted, in another session
		}
		a = *s.New
		return nil
	})
	return a, registered, err
}

// register makes the account of a session under a name.
func (m *members) register(secret, name string, now time.Time) error {
	name = strings.Join(strings.Fields(name), " ")
	if n := len([]rune(name)); n < 2 || n > 40 || strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && r != ' ' && r != '-'
	}) {
		return errName
	}
	a, registered, err := m.member(secret, now)
	if err != nil || registered {
		return err
	}
	return m.db.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(accountsBucket).Get([]byte(a.Pseudonym)) != nil {
			return nil // by another tab
		}
		folded := []byte(strings.ToLower(name))
		if tx.Bucket(namesBucket).Get(folded) != nil {
			return errTaken
		}
		a.Name, a.Since = name, now
		if err := tx.Bucket(namesBucket).Put(folded, []byte(a.Pseudonym)); err != nil {
			return err
		}
		return put(tx, accountsBucket, []byte(a.Pseudonym), a)
	})
}

// signOut ends one session.
func (m *members) signOut(secret string) error {
	k := key(secret)
	if k == nil {
		return nil
	}
	return m.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(sessionsBucket).Delete(k) })
}

// remove deletes an account; its sessions find nothing any more.
func (m *members) remove(a account) error {
	return m.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(namesBucket).Delete([]byte(strings.ToLower(a.Name))); err != nil {
			return err
		}
		return tx.Bucket(accountsBucket).Delete([]byte(a.Pseudonym))
	})
}

// tidy removes sessions that are over.
func (m *members) tidy(now time.Time) error {
	return m.db.Update(func(tx *bbolt.Tx) error {
		var over [][]byte
		err := tx.Bucket(sessionsBucket).ForEach(func(k, v []byte) error {
			var s session
			if err := json.Unmarshal(v, &s); err != nil || !s.Until.After(now) {
				over = append(over, k)
			}
			return nil
		})
		for _, k := range over {
			err = errors.Join(err, tx.Bucket(sessionsBucket).Delete(k))
		}
		return err
	})
}

func (m *members) all() ([]account, error) {
	all := []account{}
	err := m.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(accountsBucket).ForEach(func(_, v []byte) error {
			var a account
			err := json.Unmarshal(v, &a)
			all = append(all, a)
			return err
		})
	})
	return all, err
}
