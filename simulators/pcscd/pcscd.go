// Package pcscd is a PC/SC daemon in pure Go, on a private Unix socket, whose
// readers and cards are Go values.
//
// It speaks the protocol of pcsc-lite (4.4 to 4.6), so that unmodified client
// libraries and everything linked against them run without root, a daemon or
// hardware: point PCSCLITE_CSOCK_NAME at the socket before the first PC/SC call
// of a process. The client library remembers that path for the life of the
// process: use many readers, not many servers.
//
// A request that no client library sends ends its connection, as in the real
// daemon. The package is no security boundary between its clients and drives no
// hardware.
package pcscd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Card is what can be put into a reader.
//
// While a card is in one reader its methods are called one at a time. An ATR
// that is empty or malformed makes it a mute card. Transmit must return soon
// after ctx ends, which it does when the card is pulled.
type Card interface {
	ATR() []byte
	Reset()
	Transmit(ctx context.Context, command []byte) []byte
}

// Errors of building a server.
var (
	ErrInUse      = errors.New("pcscd: another daemon answers on this socket")
	ErrReaderName = errors.New("pcscd: reader name is empty, too long or taken")
	ErrTooMany    = errors.New("pcscd: no more than 16 readers")
	ErrClosed     = errors.New("pcscd: server is closed")
)

// Server is a running daemon.
type Server struct {
	listener net.Listener
	dir      string // of Private
	done     sync.WaitGroup

	mu      sync.Mutex // guards everything below and all fields of readers, clients and handles
	closed  bool
	readers [maxReaders]*Reader
	clients map[*client]struct{}
	handles map[uint32]*handle
	changes uint32 // readers added and removed, never 0 so that clients can tell it from "unaware"
}

// Listen serves on a new socket that only this user may open (mode 0600). A
// socket left behind by a dead daemon is replaced.
func Listen(socket string) (*Server, error) {
	if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == fs.ModeSocket {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return nil, ErrInUse
		}
		if err := os.Remove(socket); err != nil {
			return nil, fmt.Errorf("replace dead socket: %w", err)
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// Linux gives the file the mode that the descriptor had before bind:
		// there is no moment at which others could connect.
		if e := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &Server{
		listener: l,
		clients:  map[*client]struct{}{},
		handles:  map[uint32]*handle{},
		changes:  1,
	}
	s.done.Go(s.accept)
	return s, nil
}

// Private serves the PC/SC client of this process, before its first call: a
// process has one such daemon. What else lives as long may stand in dir, which Close
// removes.
func Private() (s *Server, dir string, err error) {
	if dir, err = os.MkdirTemp("", "pcsc"); err != nil {
		return nil, "", err
	}
	socket := filepath.Join(dir, "s")
	if err = os.Setenv("PCSCLITE_CSOCK_NAME", socket); err == nil {
		s, err = Listen(socket)
	}
	if err != nil {
		return nil, "", errors.Join(err, os.RemoveAll(dir))
	}
	s.dir = dir
	return s, dir, nil
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors: clients will leave
			continue
		}
		c := &client{conn: conn}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.clients[c] = struct{}{}
		s.done.Go(func() { s.serve(c) })
		s.mu.Unlock()
	}
}

// Close removes the socket, ends every connection, pulls every card and waits
// for the server's own goroutines.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	err := s.listener.Close()
	for c := range s.clients {
		c.conn.Close()
	}
	for _, r := range s.readers {
		if r != nil {
			r.pull()
		}
	}
	s.mu.Unlock()
	s.done.Wait()
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// AddReader plugs in an empty reader. The name is 1 to 127 bytes without NUL
// and unique.
func (s *Server) AddReader(name string) (*Reader, error) {
	if !nameOK(name) {
		return nil, fmt.Errorf("add reader %q: %w", name, ErrReaderName)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	free := -1
	for i, r := range s.readers {
		switch {
		case r == nil && free < 0:
			free = i
		case r != nil && r.name == name:
			return nil, fmt.Errorf("add reader %q: %w", name, ErrReaderName)
		}
	}
	if free < 0 {
		return nil, ErrTooMany
	}
	r := &Reader{server: s, name: name, turn: make(chan struct{}, 1)}
	s.readers[free] = r
	s.readerChange()
	return r, nil
}

func nameOK(name string) bool {
	for i := range len(name) {
		if name[i] == 0 {
			return false
		}
	}
	return len(name) > 0 && len(name) <= maxName
}

// Reader is a reader of a Server, safe for concurrent use.
type Reader struct {
	server *Server
	name   string
	turn   chan struct{} // held while one of the card's methods runs

	// guarded by server.mu
	removed   bool
	maxAPDU   uint32 // 0: does not say
	card      *insertion
	events    uint32
	handles   int     // connections, dead ones included until their owner disconnects
	exclusive *handle // owner of an exclusive connection
	owner     *handle // of the transaction
	depth     int     // of nested transactions
	trace     func(TraceEvent)
}

// insertion is one stay of a card in a reader.
type insertion struct {
	card     Card
	atr      []byte
	offered  uint32 // SCARD_PROTOCOL bits, 0 for a mute card
	first    uint32
	protocol uint32 // negotiated; 0 until the first connection and after a reset
	commands int
	ctx      context.Context
	end      context.CancelFunc
}

// Name is the reader's name.
func (r *Reader) Name() string { return r.name }

// Insert powers the card on and shows it to the clients; a card already in the
// reader is pulled first. On a removed reader it does nothing.
func (r *Reader) Insert(c Card) {
	r.Pull()
	r.turn <- struct{}{} // the card before it may still be ending its command
	c.Reset()
	in := &insertion{card: c, atr: append([]byte(nil), c.ATR()...)}
	<-r.turn
	if in.offered, in.first = protocols(in.atr); in.offered == 0 {
		in.atr = nil
	}
	in.ctx, in.end = context.WithCancel(context.Background())

	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	if r.removed || r.server.closed {
		in.end()
		return
	}
	r.pull()
	r.card = in
	r.events++
	r.server.changed()
}

// Pull takes the card out, at any moment: the command that it is working on
// ends, every connection to it answers "card removed".
func (r *Reader) Pull() {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.pull()
}

// Remove unplugs the reader itself, with its card.
func (r *Reader) Remove() {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.removed {
		return
	}
	r.pull()
	r.removed = true
	for i := range s.readers {
		if s.readers[i] == r {
			s.readers[i] = nil
		}
	}
	for _, h := range s.handles {
		if h.reader == r {
			h.event = errCardRemoved
		}
	}
	s.readerChange()
}

// pull is Pull with the server locked.
func (r *Reader) pull() {
	if r.card == nil {
		return
	}
	r.card.end()
	r.card = nil
	r.events++
	r.owner, r.depth = nil, 0
	for _, h := range r.server.handles {
		if h.reader == r {
			h.event = errCardRemoved
		}
	}
	r.server.changed()
}

// TraceEvent is a command on its way to a card, and once more when answered.
type TraceEvent struct {
	Reader   string
	Number   int // of the command since the card was inserted, from 1
	Command  []byte
	Response []byte // nil before the card sees the command, and if it was pulled meanwhile
	Answered bool
	Start    time.Time
	Took     time.Duration // 0 until answered
}

// Trace calls f before and after every command to this reader's cards, with no
// lock held: f may pull the card. Commands of clients that share a card may
// interleave. The slices are only valid during the call. nil ends it.
func (r *Reader) Trace(f func(TraceEvent)) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.trace = f
}

// readerChange tells waiting clients that a reader came or went.
func (s *Server) readerChange() {
	if s.changes++; s.changes > 0xFFFF { // clients keep 16 bits of it
		s.changes = 1
	}
	s.changed()
}
