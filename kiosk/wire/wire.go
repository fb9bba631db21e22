// Package wire carries kiosk.State and kiosk.Intent over a local socket: the
// agent serves, a window or a terminal dials.
//
// Frames are a 4-byte big-endian length and that many bytes of JSON, at most
// [MaxFrame]. The client's first frame says what it came for: the desk, and then
// the agent sends states and the client intents; or one [Query], and then the
// agent answers once. Personal data and PINs cross this socket and nowhere else:
// it is created with mode 0600 in a directory of the agent's, and the agent
// refuses a peer of another user. Nothing here is written to disk or logged.
package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
)

// MaxFrame bounds a frame; a state with a face image is the largest.
const MaxFrame = 4 << 20

// sendLimit is how long a peer may take to read one frame before it is dropped.
const sendLimit = 10 * time.Second

// Errors of this package.
var (
	ErrNoAgent   = errors.New("no agent is running: start it with `kiosk agent`")
	ErrSecond    = errors.New("another agent already serves this socket")
	ErrForeigner = errors.New("the agent belongs to another user: run this as that user")
	ErrFrame     = errors.New("frame is malformed or too large")
)

// Query is a question that needs no desk, such as what is in the queue. Kinds
// and answers are the agent's business; an answer holds no personal data.
type Query struct {
	Kind     string // "" is the desk
	Argument string
}

// Answer answers a Query as JSON.
type Answer func(ctx context.Context, q Query) (any, error)

// reply is how an Answer travels.
type reply struct {
	Error string
	Value json.RawMessage
}

// Serve offers desk, and answers, on a socket at path until ctx ends. A socket
// file that nobody serves any more is replaced.
func Serve(ctx context.Context, path string, desk kiosk.Desk, answer Answer) error {
	l, err := listen(path)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		wg.Go(func() {
			defer conn.Close()
			if sameUser(conn) == nil {
				meet(ctx, conn, desk, answer)
			}
		})
	}
}

func listen(path string) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, ErrSecond
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		os.Remove(path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect socket: %w", err)
	}
	return l, nil
}

func meet(ctx context.Context, conn net.Conn, desk kiosk.Desk, answer Answer) {
	conn.SetReadDeadline(time.Now().Add(sendLimit))
	b, err := readFrame(conn)
	conn.SetReadDeadline(time.Time{})
	var q Query
	if err != nil || json.Unmarshal(b, &q) != nil {
		return
	}
	if q.Kind == "" {
		serve(ctx, conn, desk)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	var r reply
	v, err := answer(ctx, q)
	if err == nil {
		r.Value, err = json.Marshal(v)
	}
	if err != nil {
		r.Error = err.Error()
	}
	if b, err = json.Marshal(r); err == nil {
		conn.SetWriteDeadline(time.Now().Add(sendLimit))
		writeFrame(conn, b)
	}
}

// noAgent says why nobody answers at path.
func noAgent(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w (%s)", ErrForeigner, path)
	}
	return fmt.Errorf("%w (%s)", ErrNoAgent, path)
}

// ErrAnswer is an error that the agent gave for an answer.
var ErrAnswer = errors.New("the agent answers")

// Ask puts one question to the agent and decodes the answer into v. Errors:
// ErrNoAgent, ErrAnswer.
func Ask(ctx context.Context, path string, q Query, v any) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return noAgent(path, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(sendLimit))
	b, err := json.Marshal(q)
	if err != nil {
		return err
	}
	if err := writeFrame(conn, b); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	if b, err = readFrame(conn); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return ErrFrame
	}
	if r.Error != "" {
		return fmt.Errorf("%w: %s", ErrAnswer, r.Error)
	}
	return json.Unmarshal(r.Value, v)
}

func serve(ctx context.Context, conn net.Conn, desk kiosk.Desk) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	states, err := desk.States(ctx)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		defer cancel()
		for {
			b, err := readFrame(conn)
			if err != nil {
				return
			}
			in, err := decodeIntent(b)
			clear(b)
			if err != nil {
				return
			}
			if err := desk.Send(ctx, in); err != nil {
				return
			}
		}
	}()
	for s := range states {
		b, err := encodeState(s)
		if err != nil {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(sendLimit))
		err = writeFrame(conn, b)
		clear(b)
		if err != nil {
			return
		}
	}
}

// Client is a kiosk.Desk at the other end of the socket.
type Client struct {
	path string
	mu   sync.Mutex
	conn net.Conn // of the last States call; intents go the same way
}

// Dial finds the agent that serves path. [ErrNoAgent] when there is none.
func Dial(path string) (*Client, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, noAgent(path, err)
	}
	c.Close()
	return &Client{path: path}, nil
}

// States connects and yields the agent's states. The channel closes when the
// agent goes away; calling States again reconnects.
func (c *Client) States(ctx context.Context) (<-chan kiosk.State, error) {
	conn, err := net.Dial("unix", c.path)
	if err != nil {
		return nil, noAgent(c.path, err)
	}
	hello, err := json.Marshal(Query{})
	if err == nil {
		err = writeFrame(conn, hello)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("greet agent: %w", err)
	}
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	out := make(chan kiosk.State, 1)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		defer close(out)
		defer conn.Close()
		defer stop()
		for {
			b, err := readFrame(conn)
			if err != nil {
				return
			}
			s, err := decodeState(b)
			clear(b)
			if err != nil {
				return
			}
			select { // only the newest matters; this goroutine alone writes
			case <-out:
			default:
			}
			out <- s
		}
	}()
	return out, nil
}

// Send hands an intent to the agent over the connection of the last States call.
func (c *Client) Send(ctx context.Context, in kiosk.Intent) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return ErrNoAgent
	}
	b, err := encodeIntent(in)
	if err != nil {
		return err
	}
	defer clear(b)
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(sendLimit)
	}
	c.conn.SetWriteDeadline(deadline)
	if err := writeFrame(c.conn, b); err != nil {
		return fmt.Errorf("send intent: %w", err)
	}
	return nil
}

func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrame {
		return nil, ErrFrame
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return b, nil
}

func writeFrame(w io.Writer, b []byte) error {
	if len(b) > MaxFrame {
		return ErrFrame
	}
	frame := make([]byte, 4+len(b))
	defer clear(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(b)))
	copy(frame[4:], b)
	_, err := w.Write(frame)
	return err
}

// The types below are the explicit encoding of what refuses to be marshalled.
// Their fields hide the embedded ones of the same name.

type stateFrame struct {
	kiosk.State
	Holder  *holderFrame
	Receipt *receiptFrame
}

type holderFrame struct {
	kiosk.HolderView
	Surname, GivenNames, Number, Birth, Expiry, Face []byte
}

type receiptFrame struct {
	kiosk.ReceiptView
	CancelCode []byte
}

type intentFrame struct {
	kiosk.Intent
	Secret []byte
	MRZ    *mrzFrame
}

type mrzFrame struct{ Number, Birth, Expiry []byte }

func encodeState(s kiosk.State) ([]byte, error) {
	f := stateFrame{State: s}
	if h := s.Holder; h != nil {
		f.Holder = &holderFrame{*h, h.Surname.Reveal(), h.GivenNames.Reveal(), h.Number.Reveal(),
			h.Birth.Reveal(), h.Expiry.Reveal(), h.Face.Reveal()}
	}
	if r := s.Receipt; r != nil {
		f.Receipt = &receiptFrame{*r, r.CancelCode.Reveal()}
	}
	return json.Marshal(f)
}

func decodeState(b []byte) (kiosk.State, error) {
	var f stateFrame
	if err := json.Unmarshal(b, &f); err != nil {
		return kiosk.State{}, ErrFrame
	}
	s := f.State
	if h := f.Holder; h != nil {
		v := h.HolderView
		v.Surname, v.GivenNames, v.Number = secret.New(h.Surname), secret.New(h.GivenNames), secret.New(h.Number)
		v.Birth, v.Expiry, v.Face = secret.New(h.Birth), secret.New(h.Expiry), secret.New(h.Face)
		s.Holder = &v
	}
	if r := f.Receipt; r != nil {
		v := r.ReceiptView
		v.CancelCode = secret.New(r.CancelCode)
		s.Receipt = &v
	}
	return s, nil
}

func encodeIntent(in kiosk.Intent) ([]byte, error) {
	f := intentFrame{Intent: in, Secret: in.Secret.Reveal()}
	if m := in.MRZ; m != nil {
		f.MRZ = &mrzFrame{m.Number.Reveal(), m.Birth.Reveal(), m.Expiry.Reveal()}
	}
	return json.Marshal(f)
}

func decodeIntent(b []byte) (kiosk.Intent, error) {
	var f intentFrame
	if err := json.Unmarshal(b, &f); err != nil {
		return kiosk.Intent{}, ErrFrame
	}
	in := f.Intent
	in.Secret = secret.New(f.Secret)
	if m := f.MRZ; m != nil {
		in.MRZ = &kiosk.MRZKey{Number: secret.New(m.Number), Birth: secret.New(m.Birth), Expiry: secret.New(m.Expiry)}
	}
	return in, nil
}
