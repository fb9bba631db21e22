// Package ipp prints a document on a printer that speaks the Internet Printing
// Protocol (RFC 8010, RFC 8011), above all a queue of CUPS on this machine, and
// waits until it is on paper. A document that does not come out in time is taken
// back: nobody will stand there any more to take it.
package ipp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Errors of printing. Each says what to look at.
var (
	ErrAddress     = errors.New("not the address of a printer: want ipp://localhost/printers/NAME, or ipps:// for one on the network")
	ErrUnreachable = errors.New("the printing service does not answer: is cups running?")
	ErrRefused     = errors.New("the printing service refuses: does the queue exist, and take jobs?")
	ErrNotPrinted  = errors.New("the document did not come out: look at the printer")
	errForm        = errors.New("the printing service's answer is no IPP")
)

const (
	poll     = 250 * time.Millisecond
	takeBack = 5 * time.Second
	answer   = 10 * time.Second // to one request
	maximum  = 1 << 20          // bytes of an answer
)

// Printer is one queue.
type Printer struct {
	uri    string // as operations name it
	post   string // where they go
	client *http.Client
}

// Open takes a printer's address. Without TLS it must be on this machine: a page
// with a secret on it does not cross a network in the clear.
func Open(address string) (*Printer, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "ipp" && u.Scheme != "ipps" || u.Hostname() == "" || len(u.Path) < 2 || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: %q", ErrAddress, address)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "ipp" && u.Hostname() != "localhost" && !ip.IsLoopback() {
		return nil, fmt.Errorf("%w: %q is not on this machine", ErrAddress, address)
	}
	p := &Printer{uri: address, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}, Timeout: answer}}
	to := *u
	if to.Port() == "" {
		to.Host = net.JoinHostPort(u.Hostname(), "631")
	}
	to.Scheme = map[string]string{"ipp": "http", "ipps": "https"}[u.Scheme]
	p.post = to.String()
	return p, nil
}

// Ready asks whether the queue is there and takes jobs.
func (p *Printer) Ready(ctx context.Context) error {
	r, err := p.do(ctx, getPrinterAttributes, nil, text(keyword, "requested-attributes", "printer-is-accepting-jobs"))
	if err != nil {
		return err
	}
	if r.number("printer-is-accepting-jobs") != 1 {
		return fmt.Errorf("%w: it takes no jobs now", ErrRefused)
	}
	return nil
}

// Print prints a PDF and returns nil when the printer says that it is out. Errors
// wrap ErrUnreachable, ErrRefused or ErrNotPrinted, and ctx's when that ended.
func (p *Printer) Print(ctx context.Context, title string, pdf []byte) error {
	r, err := p.do(ctx, printJob, pdf, text(name, "job-name", title), text(mimeMediaType, "document-format", "application/pdf"))
	if err != nil {
		return err
	}
	job := r.number("job-id")
	if job <= 0 {
		return fmt.Errorf("%w: no job-id", errForm)
	}
	for {
		r, err := p.do(ctx, getJobAttributes, nil, integer("job-id", job), text(keyword, "requested-attributes", "job-state"), text(keyword, "", "job-state-reasons"))
		if err == nil {
			switch state, reasons := r.number("job-state"), r.texts("job-state-reasons"); {
			case state == completed && !slices.Contains(reasons, "job-completed-with-errors"):
				return nil
			case state >= canceled:
				return fmt.Errorf("%w: job %d: %s", ErrNotPrinted, job, strings.Join(reasons, ", "))
			}
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %w", ErrNotPrinted, p.withdraw(context.WithoutCancel(ctx), job), ctx.Err())
		}
	}
}

// withdraw takes a job back, its data too, and says what the printer complains of.
func (p *Printer) withdraw(ctx context.Context, job int) string {
	ctx, cancel := context.WithTimeout(ctx, takeBack)
	defer cancel()
	why := "no reason given"
	if r, err := p.do(ctx, getPrinterAttributes, nil, text(keyword, "requested-attributes", "printer-state-reasons")); err == nil {
		if reasons := r.texts("printer-state-reasons"); len(reasons) > 0 {
			why = strings.Join(reasons, ", ")
		}
	}
	if _, err := p.do(ctx, cancelJob, nil, integer("job-id", job), boolean("purge-job", true)); err != nil {
		why += "; job " + fmt.Sprint(job) + " could not be taken back"
	}
	return why
}

func (p *Printer) do(ctx context.Context, op operation, document []byte, attributes ...attribute) (response, error) {
	head := request(op, append([]attribute{text(charset, "attributes-charset", "utf-8"), text(naturalLanguage, "attributes-natural-language", "en"),
		text(uri, "printer-uri", p.uri), text(name, "requesting-user-name", "enrollkiosk")}, attributes...))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.post, io.MultiReader(bytes.NewReader(head), bytes.NewReader(document)))
	if err != nil {
		return response{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	req.ContentLength = int64(len(head) + len(document))
	req.Header.Set("Content-Type", "application/ipp")
	resp, err := p.client.Do(req)
	if err != nil {
		return response{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return response{}, fmt.Errorf("%w: %s", ErrRefused, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maximum))
	if err != nil {
		return response{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	r, err := parse(b)
	if err != nil {
		return response{}, err
	}
	if r.status >= 0x0100 { // RFC 8011 B.1: below are the successful ones
		return response{}, fmt.Errorf("%w: status %04x %s", ErrRefused, r.status, strings.Join(r.texts("status-message"), " "))
	}
	return r, nil
}
