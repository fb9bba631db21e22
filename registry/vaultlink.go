package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// vaultRole takes identities to the vault and keeps its verdicts. A record that
// the vault does not answer for holds up no other.
type vaultRole struct {
	leading
	store  openings
	client *http.Client
	url    string
	keys   []record.JWK // the vault's verdict keys
	log    *slog.Logger
}

const (
	vaultBatch   = 64
	vaultTimeout = 30 * time.Second
	vaultFirst   = 250 * time.Millisecond // first pause after a failure; doubles
	vaultLongest = time.Minute
)

func newVaultRole(link VaultLink, certificate tls.Certificate, keys []record.JWK, store openings, log *slog.Logger) (*vaultRole, error) {
	u, err := url.Parse(link.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the vault's url must be an https address")
	}
	root, err := x509.ParseCertificate(link.Root)
	if err != nil {
		return nil, fmt.Errorf("vault's tls root: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return &vaultRole{store: store, url: strings.TrimSuffix(link.URL, "/"), keys: keys, log: log, leading: newLeading(),
		client: &http.Client{
			Timeout: vaultTimeout,
			Transport: &http.Transport{
				TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{certificate}},
				TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}, nil
}

// run works until ctx ends.
func (v *vaultRole) run(ctx context.Context, _ uint64) error {
	pause := vaultFirst
	for {
		err := v.turn(ctx)
		wait := idleTurn
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if !v.failing.Swap(true) {
				v.log.Warn("vault does not answer, records stay pending", "error", err)
			}
			wait = pause/2 + rand.N(pause/2)
			pause = min(2*pause, vaultLongest)
		default:
			if v.failing.Swap(false) {
				v.log.Info("vault answers again")
			}
			pause = vaultFirst
		}
		kick := v.kick
		if err != nil {
			kick = nil // new records do not shorten the pause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-kick:
		case <-time.After(wait):
		}
	}
}

// turn goes through all that waits, and brings a vault level that was put back from
// a backup.
func (v *vaultRole) turn(ctx context.Context) error {
	err := v.pass(ctx)
	if !errors.Is(err, errBehind) {
		return err
	}
	if err := v.level(ctx); err != nil {
		return err
	}
	return v.pass(ctx)
}

// pass goes once through all that is unopened. It goes on after a record that
// fails and returns the first failure.
func (v *vaultRole) pass(ctx context.Context) error {
	var first error
	var after [32]byte
	for {
		ids, err := v.store.Unopened(ctx, after, vaultBatch)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := v.open(ctx, id); err != nil {
				var unreachable *url.Error
				if errors.As(err, &unreachable) || errors.Is(err, errBehind) {
					return err // the next would fail the same way
				}
				v.log.Warn("vault gives no verdict", "record", api.ID(id), "error", err)
				first = errors.Join(first, err)
			}
			after = id
		}
		if len(ids) < vaultBatch {
			return errors.Join(first, v.outcomes(ctx))
		}
	}
}

// outcomes follows what people have decided about records that the vault had
// judged. Each takes the place of the verdict that it names, and of no other.
func (v *vaultRole) outcomes(ctx context.Context) error {
	seen, err := v.store.Outcomes(ctx)
	if err != nil {
		return err
	}
	for {
		asked := api.OutcomesRequest{After: seen}
		a, err := v.ask(ctx, api.PathOutcomes, asked)
		if err != nil {
			return err
		}
		got, err := decodeAnswer[api.Outcomes](a)
		if err != nil {
			return fmt.Errorf("vault's outcomes: %w", err)
		}
		if got.Last < seen { // a vault that was restored from an older copy
			v.log.Warn("the vault has fewer outcomes than before: all are looked at again", "seen", seen, "there", got.Last)
			seen = 0
			continue
		}
		for _, o := range got.Outcomes {
			if err := v.redecide(ctx, o); err != nil {
				return err
			}
			seen = o.Number
		}
		if len(got.Outcomes) == 0 || seen >= got.Last {
			return nil
		}
	}
}

func (v *vaultRole) redecide(ctx context.Context, o api.Outcome) error {
	verdict, err := receipt.VerifyVerdict([]byte(o.Verdict), nil, v.keys, o.Record)
	if err != nil {
		return fmt.Errorf("vault's outcome %d: %w", o.Number, err)
	}
	claims := verdict.Claims()
	applied, err := v.store.Redecided(ctx, outcome{o.Number, o.Record, claims.Supersedes,
		decision{Status: api.Status(claims.Status), Code: claims.Code, Verdict: o.Verdict}})
	if applied {
		v.log.Info("a person decided", "record", o.Record, "status", claims.Status, "code", claims.Code)
	}
	return err
}

// errBehind: the vault was put back from a backup, and wants to be shown what it has
// judged since.
var errBehind = errors.New("the vault is behind: it was put back from a backup")

// level shows the vault all that it has judged. It asks for what it does not know.
func (v *vaultRole) level(ctx context.Context) error {
	v.log.Warn("the vault was put back from a backup: it is shown what it has judged")
	policies, err := v.store.Policies(ctx)
	if err != nil {
		return err
	}
	for _, p := range policies {
		if _, err := v.show(ctx, api.MediaJOSE, bytes.NewReader(p.signed)); err != nil {
			return fmt.Errorf("show the vault a policy: %w", err)
		}
	}
	shown, missed := 0, 0
	for after := uint64(0); ; {
		batch, err := v.store.Judged(ctx, after, api.MaxJudged)
		if err != nil {
			return err
		}
		q := api.LevelRequest{Judged: []api.Judged{}}
		for _, j := range batch {
			after = j.number
			q.Judged = append(q.Judged, api.Judged{Record: j.id, Verdict: j.verdict})
		}
		missing, err := v.showJudged(ctx, q)
		if err != nil {
			return err
		}
		for _, j := range q.Judged {
			if !slices.Contains(missing, j.Record) {
				continue
			}
			if j.Submission, err = v.store.Submission(ctx, j.Record); errors.Is(err, errNotHeld) {
				v.log.Error("a record's person is lost to the vault", "record", j.Record, "error", err) // see registry check
				continue
			} else if err != nil {
				return fmt.Errorf("record %s: %w", j.Record, err)
			}
			if _, err := v.showJudged(ctx, api.LevelRequest{Judged: []api.Judged{j}}); err != nil {
				return fmt.Errorf("record %s: %w", j.Record, err)
			}
			missed++
		}
		if shown += len(batch); len(batch) < api.MaxJudged {
			break
		}
	}
	seen, err := v.store.Outcomes(ctx)
	if err != nil {
		return err
	}
	if _, err := v.showJudged(ctx, api.LevelRequest{Judged: []api.Judged{}, Outcomes: seen, Done: true}); err != nil {
		return err
	}
	v.log.Info("the vault is level", "shown", shown, "missed", missed)
	return nil
}

func (v *vaultRole) showJudged(ctx context.Context, q api.LevelRequest) ([]api.ID, error) {
	body, err := jsonReader(q)
	if err != nil {
		return nil, err
	}
	out, err := v.show(ctx, api.MediaJSON, body)
	return out.Missing, err
}

func (v *vaultRole) show(ctx context.Context, media string, body io.Reader) (out api.LevelResult, err error) {
	a, err := v.send(ctx, api.PathLevel, media, body)
	if err != nil {
		return out, err
	}
	return decodeAnswer[api.LevelResult](a)
}

// decodeAnswer reads the vault's JSON.
func decodeAnswer[M interface {
	api.OpenResult | api.Outcomes | api.LevelResult | api.ClaimsResult | api.PlacesResult
	Check() error
}](a *http.Response) (m M, err error) {
	defer a.Body.Close()
	if api.IsMedia(a.Header.Get("Content-Type"), api.MediaProblem) {
		if p, err := api.Decode[api.Problem](io.LimitReader(a.Body, 4<<10)); err == nil && p.Code == api.CodeBehind {
			return m, errBehind
		}
	}
	if a.StatusCode != http.StatusOK || !api.IsMedia(a.Header.Get("Content-Type"), api.MediaJSON) {
		io.Copy(io.Discard, io.LimitReader(a.Body, 4<<10))
		return m, fmt.Errorf("vault answers %d", a.StatusCode)
	}
	return api.Decode[M](a.Body)
}

// open asks for one verdict and keeps it.
func (v *vaultRole) open(ctx context.Context, id [32]byte) error {
	submission, err := v.store.Submission(ctx, id)
	if err != nil {
		return err
	}
	result, err := v.post(ctx, submission)
	if err != nil {
		return err
	}
	verdict, err := receipt.VerifyVerdict([]byte(result.Verdict), nil, v.keys, id)
	if err != nil {
		return fmt.Errorf("vault's verdict: %w", err)
	}
	var refused *record.Payload
	claims := verdict.Claims()
	if claims.Status != receipt.Active {
		s, err := record.ParseSubmission(submission)
		if err != nil {
			return err
		}
		p := s.Record().Payload()
		refused = &p
	}
	d := decision{Status: api.Status(claims.Status), Code: claims.Code, Verdict: result.Verdict}
	if err := v.store.Decided(ctx, id, d, refused); err != nil {
		return err
	}
	v.log.Info("vault decided", "record", api.ID(id), "status", claims.Status, "code", claims.Code)
	return nil
}

func (v *vaultRole) post(ctx context.Context, submission []byte) (api.OpenResult, error) {
	a, err := v.ask(ctx, api.PathOpen, api.OpenRequest{Record: submission})
	if err != nil {
		return api.OpenResult{}, err
	}
	return decodeAnswer[api.OpenResult](a)
}

// unblock has the vault answer a request. Its refusal is a *chain.Refusal; any
// other error says that it may be asked again.
func (v *vaultRole) unblock(ctx context.Context, order api.UnblockOrder) ([]byte, error) {
	a, err := v.ask(ctx, api.PathUnblock, order)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	switch media := a.Header.Get("Content-Type"); {
	case a.StatusCode == http.StatusOK && api.IsMedia(media, api.MediaJSON):
		r, err := api.Decode[api.UnblockResult](a.Body)
		return []byte(r.Answer), err
	case a.StatusCode == http.StatusForbidden && api.IsMedia(media, api.MediaProblem):
		p, err := api.Decode[api.Problem](a.Body)
		if err != nil {
			return nil, err
		}
		return nil, chain.Refuse(p.Code, "the vault refuses: %s", p.Title)
	}
	io.Copy(io.Discard, io.LimitReader(a.Body, 4<<10))
	return nil, fmt.Errorf("vault answers %d", a.StatusCode)
}

func (v *vaultRole) ask(ctx context.Context, path string, message any) (*http.Response, error) {
	body, err := jsonReader(message)
	if err != nil {
		return nil, err
	}
	return v.send(ctx, path, api.MediaJSON, body)
}

func (v *vaultRole) send(ctx context.Context, path, media string, body io.Reader) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, v.url+path, body)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", media)
	return v.client.Do(q)
}
