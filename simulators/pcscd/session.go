package pcscd

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"time"
)

// client is one connection, which is one PC/SC context.
type client struct {
	conn net.Conn

	// guarded by Server.mu
	minor   uint32 // 0 until VERSION was agreed
	context uint32 // 0 until ESTABLISH
	waiting bool   // registered for one event
	held    bool   // since 4.6: registered, but has not fetched the states yet
	missed  bool   // an event happened while held
}

// handle is a connection of a client to a reader.
type handle struct {
	id     uint32
	client *client
	reader *Reader
	event  uint32 // errCardReset or errCardRemoved, to be told
}

// send writes one message. A client that does not read loses its connection.
// A single Write is atomic, so that replies and events never mix.
func (c *client) send(b []byte) {
	if len(b) == 0 {
		return
	}
	c.conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.conn.Write(b); err != nil {
		c.conn.Close()
	}
}

func (s *Server) serve(c *client) {
	defer s.leave(c)
	for {
		q, err := readRequest(c.conn)
		if err != nil {
			return
		}
		reply, keep := s.handle(c, q)
		if !keep {
			return
		}
		c.send(reply)
	}
}

// leave ends a connection: its handles, its transaction, its waiting.
func (s *Server) leave(c *client) {
	c.conn.Close()
	s.release(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// release drops everything that a client holds. A card left inside a
// transaction is reset, for the next client must not find it half way.
func (s *Server) release(c *client) {
	s.mu.Lock()
	c.context, c.waiting, c.held, c.missed = 0, false, false, false
	var reset []*handle
	for _, h := range s.handles {
		if h.client != c {
			continue
		}
		if h.reader.owner == h && h.event == 0 {
			reset = append(reset, h)
		} else {
			s.drop(h)
		}
	}
	s.mu.Unlock()
	for _, h := range reset {
		s.reset(h)
		s.mu.Lock()
		s.drop(h)
		s.mu.Unlock()
	}
}

// drop ends a handle.
func (s *Server) drop(h *handle) {
	r := h.reader
	delete(s.handles, h.id)
	r.handles--
	if r.owner == h {
		r.owner, r.depth = nil, 0
	}
	if r.exclusive == h {
		r.exclusive = nil
	}
	s.changed()
}

// changed tells every waiting client, once. s.mu is held.
func (s *Server) changed() {
	for c := range s.clients {
		switch {
		case !c.waiting:
		case c.held:
			c.missed = true
		default:
			c.waiting = false
			c.send(words(0, ok))
		}
	}
}

// newID returns a number below 2^31 that no context and no handle has. It is
// random, for client libraries outlive servers and keep old numbers.
func (s *Server) newID() uint32 {
next:
	for {
		id := rand.Uint32() >> 1
		if id == 0 || s.handles[id] != nil {
			continue
		}
		for c := range s.clients {
			if c.context == id {
				continue next
			}
		}
		return id
	}
}

// states is the array of reader states, at its full size.
func (s *Server) states() []byte {
	b := make([]byte, maxReaders*readerStateSize)
	for i, r := range s.readers {
		if r == nil {
			continue
		}
		e := b[i*readerStateSize:][:readerStateSize]
		put := func(at int, v uint32) { binary.NativeEndian.PutUint32(e[at:], v) }
		copy(e[:maxName], r.name)
		put(128, r.events&0xFFFF)
		put(136, uint32(r.handles))
		if r.exclusive != nil {
			put(136, 0xFFFFFFFF)
		}
		switch in := r.card; {
		case in == nil:
			put(132, stateAbsent)
		case in.offered == 0:
			put(132, statePresent|stateSwallowed)
		default:
			put(132, statePresent|statePowered|stateNegotiable)
			copy(e[140:], in.atr)
			put(176, uint32(len(in.atr)))
			put(180, in.protocol)
		}
	}
	return b
}

// handle answers one request; keep is false when the connection must end.
func (s *Server) handle(c *client, q request) (reply []byte, keep bool) {
	switch q.command {
	case cmdRelease:
		if id := q.u32(0); id == 0 || id != s.contextOf(c) {
			return nil, false
		}
		s.release(c)
		return q.reply(ok), true
	case cmdTransmit, cmdReconnect, cmdDisconnect, cmdEnd:
		// These call the card: not with the lock held.
		h := s.lookup(c, q.u32(0))
		if h == nil {
			return nil, false
		}
		switch q.command {
		case cmdTransmit:
			return s.transmit(h, q), true
		case cmdReconnect:
			return s.reconnect(h, q), true
		case cmdDisconnect:
			return s.disconnect(h, q), true
		}
		return s.end(h, q), true
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if c.minor == 0 && q.command != cmdVersion && q.command != cmdCancel {
		return nil, false
	}
	switch q.command {
	case cmdVersion:
		return version(c, q), true
	case cmdEstablish:
		if c.context != 0 {
			return nil, false
		}
		c.context = s.newID()
		q.put(4, c.context)
		return q.reply(ok), true
	case cmdConnect:
		return s.connect(c, q)
	case cmdCancel:
		return q.reply(s.cancel(q.u32(0))), true
	case cmdReadersState:
		return s.states(), true
	case cmdWait:
		// Registering and answering are one step, or an event could overtake the answer.
		c.waiting = true
		if c.minor >= 6 {
			c.held, c.missed = true, false
			return nil, true
		}
		c.send(s.states())
		return nil, true
	case cmdReadersStateSize:
		return words(maxReaders), c.minor >= 6
	case cmdReadersArray:
		if c.minor < 6 {
			return nil, false
		}
		c.send(s.states())
		c.held = false
		if c.missed {
			c.missed = false
			s.changed()
		}
		return nil, true
	case cmdStopWaiting:
		if c.waiting {
			c.waiting, c.held, c.missed = false, false, false
			c.send(words(0, ok))
		}
		return nil, true
	case cmdReaderEvents:
		return words(s.changes, ok), c.minor >= 5
	}

	h := s.handles[q.u32(0)]
	if h == nil || h.client != c {
		return nil, false
	}
	r := h.reader
	switch q.command {
	case cmdBegin:
		rv := h.usable()
		if rv == ok {
			r.owner = h
			r.depth++
		}
		return q.reply(rv), true
	case cmdStatus:
		return q.reply(h.event), true
	case cmdControl:
		return r.control(q), true
	case cmdGetAttrib:
		return s.attribute(h, q)
	case cmdSetAttrib:
		return q.reply(errUnsupported), q.u32(272) <= maxAttribute
	}
	return nil, false
}

func (s *Server) contextOf(c *client) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.context
}

func (s *Server) lookup(c *client, id uint32) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.handles[id]; h != nil && h.client == c {
		return h
	}
	return nil
}

// version agrees on the client's own minor: a client checks only rv, and a 4.6
// client that is told 4.5 cannot wait for events.
func version(c *client, q request) []byte {
	if minor := q.u32(4); q.u32(0) == protocolMajor && minor >= protocolMinorFirst && minor <= protocolMinorLast {
		c.minor = minor
		return q.reply(ok)
	}
	q.put(0, protocolMajor)
	q.put(4, protocolMinorLast)
	return q.reply(errServiceStopped)
}

// cancel ends the waiting of another connection's client.
func (s *Server) cancel(context uint32) uint32 {
	if context == 0 {
		return errInvalidHandle
	}
	for c := range s.clients {
		if c.context == context && c.waiting {
			c.waiting, c.held, c.missed = false, false, false
			c.send(words(0, errCancelled))
			return ok
		}
	}
	return errInvalidHandle
}

// usable says whether the handle may use the card now.
func (h *handle) usable() uint32 {
	r := h.reader
	switch {
	case h.event != 0:
		return h.event
	case r.card == nil:
		return errNoCard
	case r.owner != nil && r.owner != h, r.exclusive != nil && r.exclusive != h:
		return errSharing
	}
	return ok
}

// negotiate settles the protocol of a connection.
func (in *insertion) negotiate(preferred uint32) uint32 {
	switch {
	case in.offered == 0:
		return errUnresponsive
	case in.protocol != 0:
		if preferred&in.protocol == 0 {
			return errProtocol
		}
	case preferred&in.first != 0:
		in.protocol = in.first
	case preferred&in.offered != 0:
		in.protocol = preferred & in.offered
	default:
		return errProtocol
	}
	return ok
}

func (s *Server) connect(c *client, q request) (reply []byte, keep bool) {
	if id := q.u32(0); id == 0 || id != c.context {
		return nil, false
	}
	raw := q.body[4:132]
	raw[127] = 0
	name := string(raw[:bytes.IndexByte(raw, 0)])
	share, preferred := q.u32(132), q.u32(136)
	var r *Reader
	for _, x := range s.readers {
		if x != nil && x.name == name {
			r = x
		}
	}
	switch {
	case r == nil:
		return q.reply(errUnknownReader), true
	case share < shareExclusive || share > shareDirect:
		return q.reply(errInvalidValue), true
	case r.exclusive != nil, share == shareExclusive && r.handles > 0:
		return q.reply(errSharing), true
	}
	active := uint32(0)
	if share != shareDirect {
		if r.card == nil {
			return q.reply(errNoCard), true
		}
		if rv := r.card.negotiate(preferred); rv != ok {
			return q.reply(rv), true
		}
		active = r.card.protocol
	}
	h := &handle{id: s.newID(), client: c, reader: r}
	s.handles[h.id] = h
	r.handles++
	if share == shareExclusive {
		r.exclusive = h
	}
	s.changed()
	q.put(140, h.id)
	q.put(144, active)
	return q.reply(ok), true
}

func (s *Server) reconnect(h *handle, q request) []byte {
	share, preferred, initialization := q.u32(4), q.u32(8), q.u32(12)
	r := h.reader
	s.mu.Lock()
	rv := ok
	switch {
	case r.removed:
		rv = errCardRemoved
	case share < shareExclusive || share > shareDirect || initialization > unpowerCard:
		rv = errInvalidValue
	case r.owner != nil && r.owner != h, r.exclusive != nil && r.exclusive != h,
		share == shareExclusive && r.handles > 1:
		rv = errSharing
	case share != shareDirect && r.card == nil:
		rv = errNoCard
	case initialization != leaveCard && h.event == errCardRemoved:
		rv = errCardRemoved
	}
	s.mu.Unlock()
	if rv == ok && initialization != leaveCard {
		s.reset(h)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if rv == ok && share != shareDirect {
		if r.card == nil {
			rv = errCardRemoved
		} else if rv = r.card.negotiate(preferred); rv == ok {
			q.put(16, r.card.protocol)
		}
	}
	if rv != ok {
		return q.reply(rv)
	}
	h.event = 0
	r.exclusive = nil
	if share == shareExclusive {
		r.exclusive = h
	}
	s.changed()
	return q.reply(ok)
}

func (s *Server) disconnect(h *handle, q request) []byte {
	disposition := q.u32(4)
	if disposition > ejectCard {
		return q.reply(errInvalidValue)
	}
	if disposition == resetCard || disposition == unpowerCard {
		s.reset(h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(h)
	return q.reply(ok)
}

func (s *Server) end(h *handle, q request) []byte {
	disposition := q.u32(4)
	r := h.reader
	s.mu.Lock()
	rv := h.event
	switch {
	case rv != ok:
	case disposition > ejectCard:
		rv = errInvalidValue
	case r.owner == nil:
		rv = errNotTransacted
	case r.owner != h:
		rv = errSharing
	}
	s.mu.Unlock()
	if rv != ok {
		return q.reply(rv)
	}
	if disposition == resetCard || disposition == unpowerCard {
		s.reset(h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.owner == h {
		if r.depth--; r.depth == 0 {
			r.owner = nil
		}
	}
	return q.reply(ok)
}

// reset powers the card of h off and on. The other handles are told; h is not,
// unless its card goes away meanwhile.
func (s *Server) reset(h *handle) {
	s.mu.Lock()
	r := h.reader
	in := r.card
	if in == nil || h.event == errCardRemoved || h.usable() == errSharing {
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()

	select {
	case r.turn <- struct{}{}:
	case <-in.ctx.Done():
		return
	}
	in.card.Reset()
	atr := append([]byte(nil), in.card.ATR()...)
	<-r.turn

	s.mu.Lock()
	defer s.mu.Unlock()
	in.protocol = 0
	if in.offered, in.first = protocols(atr); in.offered == 0 {
		atr = nil
	}
	in.atr = atr
	if r.card != in {
		return
	}
	for _, other := range s.handles {
		if other.reader == r && other != h && other.event == 0 {
			other.event = errCardReset
		}
	}
	s.changed()
}

func (s *Server) transmit(h *handle, q request) []byte {
	limit := q.u32(24)
	fail := func(rv uint32) []byte {
		q.put(24, 0)
		return q.reply(rv)
	}
	s.mu.Lock()
	r := h.reader
	in := r.card
	rv := h.usable()
	switch {
	case rv != ok:
	case len(q.payload) < 4:
		rv = errInvalidParam
	case limit < 2:
		rv = errBuffer
	case q.u32(4) != in.protocol:
		rv = errProtocol
	}
	if rv != ok {
		s.mu.Unlock()
		return fail(rv)
	}
	in.commands++
	event := TraceEvent{Reader: r.name, Number: in.commands, Command: q.payload, Start: time.Now()}
	trace := r.trace
	s.mu.Unlock()

	if trace != nil {
		trace(event)
	}
	response, removed := r.exchange(in, q.payload)
	if trace != nil {
		event.Response, event.Answered, event.Took = response, true, time.Since(event.Start)
		trace(event)
	}
	switch {
	case removed || in.ctx.Err() != nil:
		return fail(errCardRemoved)
	case len(response) < 2 || uint32(len(response)) > maxBuffer:
		return fail(errNotTransacted) // what a driver reports when the card talks nonsense
	}
	q.put(24, uint32(len(response)))
	if uint32(len(response)) > limit {
		return q.reply(errBuffer)
	}
	return append(q.reply(ok), response...)
}

// exchange lets the card answer, in its own goroutine: a card that overlooks
// the end of its context must not hold up the daemon.
func (r *Reader) exchange(in *insertion, command []byte) (response []byte, removed bool) {
	select {
	case r.turn <- struct{}{}:
	case <-in.ctx.Done():
		return nil, true
	}
	if in.ctx.Err() != nil {
		<-r.turn
		return nil, true
	}
	answer := make(chan []byte, 1)
	command = append([]byte(nil), command...)
	go func() {
		defer func() { <-r.turn }()
		answer <- in.card.Transmit(in.ctx, command)
	}()
	select {
	case response = <-answer:
		return response, false
	case <-in.ctx.Done():
		return nil, true
	}
}

func (s *Server) attribute(h *handle, q request) (reply []byte, keep bool) {
	limit := q.u32(272)
	if limit > maxAttribute {
		return nil, false
	}
	var value []byte
	switch q.u32(4) {
	case attrATR:
		if rv := h.usable(); rv != ok {
			return q.reply(rv), true
		}
		value = h.reader.card.atr
	case attrVendorName:
		value = []byte("Specimen")
	case attrFriendlyName, attrSystemName:
		value = append([]byte(h.reader.name), 0)
	default:
		return q.reply(errUnsupported), true
	}
	q.put(272, uint32(len(value)))
	if uint32(len(value)) > limit {
		return q.reply(errBuffer), true
	}
	clear(q.body[8:272])
	copy(q.body[8:272], value)
	return q.reply(ok), true
}
