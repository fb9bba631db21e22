package relyingparty

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"enrollkiosk/registry/credential"
)

const (
	maxList      = 2 << 20 // bytes of a status list, inflated: 2^24 statuses
	maxLists     = 256
	fetchTime    = 20 * time.Second
	retryTime    = time.Minute      // after a fetch that failed, at most
	lookTime     = 10 * time.Second // how soon Run notices a list that a sign-in brought up
	jitterOfTTL  = 10               // a tenth of a list's ttl, at most, is added to it
	minFetchTime = 30 * time.Second // between two fetches of one list, at least
)

// lists are the issuer's status lists, kept while they are believed. They are
// fetched by the clock, not by sign-ins, whose times are nobody's business.
type lists struct {
	client *http.Client
	from   credential.Authority
	log    *slog.Logger

	mu  sync.Mutex
	all map[string]*list // by URI
}

type list struct {
	uri   string
	fetch sync.Mutex // one at a time

	mu      sync.Mutex // of what follows
	current credential.VerifiedStatusList
	next    time.Time // when to fetch
}

func newLists(c Config) (*lists, error) {
	client := http.Client{}
	if c.Client != nil {
		client = *c.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	l := &lists{client: &client, from: c.Issuer, log: c.Log, all: map[string]*list{}}
	for _, uri := range c.StatusLists {
		if _, err := l.find(uri); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return l, nil
}

// find is the list at uri, which is kept from now on. Only addresses of the issuer
// itself are lists: a signed credential must not send a site's requests elsewhere.
func (l *lists) find(uri string) (*list, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one, ok := l.all[uri]; ok {
		return one, nil
	}
	if !strings.HasPrefix(uri, "https://") || !strings.HasPrefix(uri, strings.TrimSuffix(l.from.Issuer, "/")+"/") {
		return nil, fmt.Errorf("%w: a list that is not the issuer's", credential.ErrStatusList)
	}
	if len(l.all) >= maxLists {
		return nil, fmt.Errorf("%w: %d lists", ErrStatusAway, len(l.all))
	}
	l.all[uri] = &list{uri: uri}
	return l.all[uri], nil
}

// check looks a credential up. Only a list that was never had is fetched here.
func (l *lists) check(ctx context.Context, ref credential.StatusRef, now time.Time) error {
	one, err := l.find(ref.URI)
	if err != nil {
		return err
	}
	current, next := one.state()
	if !current.Valid() && !next.After(now) {
		// Not within the sign-in's own time: a person who leaves must not spoil it
		// for others.
		if err := l.refresh(context.WithoutCancel(ctx), one, now); err != nil {
			l.log.Warn("a status list is away", "code", Code(err))
		}
		current, _ = one.state()
	}
	if !current.Valid() {
		return ErrStatusAway
	}
	err = current.Check(ref, now)
	if errors.Is(err, credential.ErrExpired) {
		return fmt.Errorf("%w: %w", ErrStatusAway, err)
	}
	return err
}

func (one *list) state() (credential.VerifiedStatusList, time.Time) {
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.current, one.next
}

// refresh fetches the list unless somebody else did meanwhile.
func (l *lists) refresh(ctx context.Context, one *list, now time.Time) error {
	one.fetch.Lock()
	defer one.fetch.Unlock()
	if _, next := one.state(); next.After(now) {
		return nil
	}
	got, err := l.get(ctx, one.uri, now)
	one.mu.Lock()
	defer one.mu.Unlock()
	if err != nil {
		one.next = now.Add(minFetchTime + rand.N(retryTime-minFetchTime))
		return err
	}
	// An older one than is known already, from a cache in between, is no news.
	if !one.current.Valid() || !got.Refresh().Before(one.current.Refresh()) {
		one.current = got
	}
	one.next = got.Refresh()
	if soon := now.Add(minFetchTime); one.next.Before(soon) {
		one.next = soon
	}
	one.next = one.next.Add(rand.N(one.next.Sub(now)/jitterOfTTL + 1))
	return nil
}

func (l *lists) get(ctx context.Context, uri string, now time.Time) (credential.VerifiedStatusList, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return credential.VerifiedStatusList{}, fmt.Errorf("%w: %w", ErrStatusAway, err)
	}
	req.Header.Set("Accept", credential.StatusListMediaType)
	resp, err := l.client.Do(req)
	if err != nil {
		return credential.VerifiedStatusList{}, fmt.Errorf("%w: %w", ErrStatusAway, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return credential.VerifiedStatusList{}, fmt.Errorf("%w: %s", ErrStatusAway, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 2*maxList+credential.MaxRequest+1)) // one more than is read below
	if err != nil {
		return credential.VerifiedStatusList{}, fmt.Errorf("%w: %w", ErrStatusAway, err)
	}
	return credential.VerifyStatusList(string(b), credential.ExpectStatusList{Authority: l.from, URI: uri, MaxBytes: maxList, Now: now})
}

// Run keeps the status lists fresh until ctx ends, each at a time of its own: when
// its ttl is over, and a little later by chance. A list that cannot be fetched is
// believed until its exp; from then on nobody signs in.
func (p *Party) Run(ctx context.Context) {
	for {
		now := time.Now()
		wait := lookTime
		for _, one := range p.lists.known() {
			if _, next := one.state(); !next.After(now) {
				if err := p.lists.refresh(ctx, one, now); err != nil {
					p.log.Warn("a status list is not fetched", "code", Code(err))
				}
			}
			if _, next := one.state(); next.After(now) {
				wait = min(wait, next.Sub(now))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (l *lists) known() []*list {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*list
	for _, one := range l.all {
		all = append(all, one)
	}
	return all
}
