package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// The spool is a row of files that only grow, spool/1, spool/2, ..., each a row
// of frames. A frame is one record, as it was put:
//
//	magic "EKSPOOL1" | id 32 | seq 8 | put 8 | head length 4 | data length 4 | head | data | SHA-256 of all before
//
// Numbers are big-endian; put is nanoseconds since 1970; a head length of
// noHead means that the item had none. A frame costs one sync, where a file of
// its own would cost two and the creation of an inode, which is dearer still. A
// file is removed when the last of its records is purged; no file is continued
// after a restart, so that what a crash has cut stands at a file's end.
const (
	frameMagic  = "EKSPOOL1"
	frameHeader = len(frameMagic) + 32 + 8 + 8 + 4 + 4
	noHead      = 1<<32 - 1
	maxFrame    = frameHeader + MaxHead + MaxData + sha256.Size
	segmentSize = 1 << 20 // a file that has reached it is not continued
)

type spooled struct {
	Item
	seq uint64
	put time.Time
}

// place is where a record's frame stands.
type place struct {
	segment uint64
	offset  int64
	size    int
}

type spool struct {
	files
	live map[uint64]int // records in each file that are not purged
	last uint64         // number of the newest file
	now  *appender      // the newest file; nil when the next frame begins another
	undo int64          // its size before the last frame

	mu sync.Mutex // readers do not wait for a writer's disk
	at map[ID]place
}

func segmentName(n uint64) string { return filepath.Join(spoolDir, strconv.FormatUint(n, 10)) }

// add appends a record's frame, durably.
func (s *spool) add(item Item, seq uint64, put time.Time) error {
	if s.now != nil && s.now.size >= segmentSize {
		if err := s.end(); err != nil {
			return err
		}
	}
	if s.now == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	b := encodeFrame(item, seq, put)
	offset := s.now.size
	if err := s.now.append(b); err != nil {
		return err
	}
	s.undo = offset
	s.adopt(item.ID, place{s.last, offset, len(b)})
	return nil
}

// takeBack removes the frame that add has just added.
func (s *spool) takeBack(id ID) error {
	s.forget(id)
	return s.now.cut(s.undo)
}

func (s *spool) begin() error {
	s.last++
	name := segmentName(s.last)
	if err := s.before("create", name); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := s.syncDir(spoolDir); err != nil {
		return errors.Join(err, f.Close())
	}
	s.now = &appender{files: s.files, name: name, f: f}
	return nil
}

func (s *spool) end() error {
	if s.now == nil {
		return nil
	}
	f := s.now.f
	s.now = nil
	return f.Close()
}

// place is where a record's frame stands.
func (s *spool) place(id ID) (place, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.at[id]
	return p, ok
}

// adopt makes a frame a record's second copy.
func (s *spool) adopt(id ID, p place) {
	s.forget(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[id] = p
	s.live[p.segment]++
}

// forget takes a record off its file's count.
func (s *spool) forget(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.at[id]; ok {
		delete(s.at, id)
		s.live[p.segment]--
	}
}

// drop removes a record, which here means: its file when no other is in it. The
// removal need not be durable: a file too many is found at the next opening.
func (s *spool) drop(id ID) error {
	p, ok := s.place(id)
	if !ok {
		return nil
	}
	s.forget(id)
	if s.live[p.segment] > 0 {
		return nil
	}
	if p.segment == s.last {
		if err := s.end(); err != nil {
			return err
		}
	}
	delete(s.live, p.segment)
	return s.remove(segmentName(p.segment))
}

// read reads a record's frame.
func (s *spool) read(id ID) (spooled, error) {
	p, ok := s.place(id)
	if !ok {
		return spooled{}, fmt.Errorf("%w: not in the spool", ErrDamaged)
	}
	return s.readAt(id, p)
}

func (s *spool) readAt(id ID, p place) (spooled, error) {
	f, err := os.Open(s.path(segmentName(p.segment)))
	if err != nil {
		return spooled{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer f.Close()
	b := make([]byte, p.size)
	if _, err := f.ReadAt(b, p.offset); err != nil {
		return spooled{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r, n, err := decodeFrame(b)
	if err == nil && (n != p.size || r.ID != id) {
		err = fmt.Errorf("%w: spool", ErrDamaged)
	}
	return r, err
}

// frame is what is known of a frame without keeping its record in memory.
type frame struct {
	place
	id     ID
	seq    uint64
	put    time.Time
	head   []byte
	digest []byte
}

// segment is a file of the spool as it was found.
type segment struct {
	number uint64
	frames []frame
	bad    bool // bytes that are in no frame
	tail   bool // those stand at the end, as a crash leaves them
}

// load reads the spool. strange are names that no file of the spool has.
func (s *spool) load(ctx context.Context) (segments []segment, strange []string, err error) {
	names, err := os.ReadDir(s.path(spoolDir))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, f := range names {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n, err := strconv.ParseUint(f.Name(), 10, 32)
		var b []byte
		if err == nil {
			b, err = readBounded(s.path(segmentName(n)), int64(segmentSize+maxFrame))
		}
		if err != nil || segmentName(n) != filepath.Join(spoolDir, f.Name()) {
			strange = append(strange, filepath.Join(spoolDir, f.Name()))
			continue
		}
		s.last = max(s.last, n)
		found := segment{number: n}
		found.bad, found.tail = scan(b, func(r spooled, offset int64, size int) {
			found.frames = append(found.frames, frame{place{n, offset, size}, r.ID, r.seq, r.put, bytes.Clone(r.Head), digest(r.Data)})
		})
		segments = append(segments, found)
	}
	return segments, strange, nil
}

// scan calls f with each frame of a file. bad says that bytes are in none, tail
// that these are the file's last ones. Damage costs the frames it touches and no
// others.
func scan(b []byte, f func(r spooled, offset int64, size int)) (bad, tail bool) {
	for off := 0; off < len(b); {
		r, n, err := decodeFrame(b[off:])
		if err == nil {
			tail = false
			f(r, int64(off), n)
			off += n
			continue
		}
		bad, tail = true, !bad
		next := bytes.Index(b[off+1:], []byte(frameMagic))
		if next < 0 {
			return bad, tail
		}
		off += next + 1
	}
	return bad, tail
}

func encodeFrame(item Item, seq uint64, put time.Time) []byte {
	b := make([]byte, 0, frameHeader+len(item.Head)+len(item.Data)+sha256.Size)
	b = append(b, frameMagic...)
	b = append(b, item.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, uint64(put.UnixNano()))
	n := uint32(noHead)
	if item.Head != nil {
		n = uint32(len(item.Head))
	}
	b = binary.BigEndian.AppendUint32(b, n)
	b = binary.BigEndian.AppendUint32(b, uint32(len(item.Data)))
	b = append(b, item.Head...)
	b = append(b, item.Data...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeFrame reads the frame that b begins with, and its length.
func decodeFrame(b []byte) (s spooled, n int, err error) {
	bad := fmt.Errorf("%w: spool frame", ErrDamaged)
	if len(b) < frameHeader || string(b[:len(frameMagic)]) != frameMagic {
		return s, 0, bad
	}
	p := b[len(frameMagic):]
	s.ID, p = ID(p[:32]), p[32:]
	s.seq, p = binary.BigEndian.Uint64(p), p[8:]
	s.put, p = time.Unix(0, int64(binary.BigEndian.Uint64(p))).UTC(), p[8:]
	heads, datas, p := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:]), p[8:]
	hasHead := heads != noHead
	if !hasHead {
		heads = 0
	}
	n = frameHeader + int(heads) + int(datas) + sha256.Size
	if heads > MaxHead || datas == 0 || datas > MaxData || len(b) < n {
		return s, 0, bad
	}
	if want := sha256.Sum256(b[:n-sha256.Size]); !bytes.Equal(b[n-sha256.Size:n], want[:]) {
		return s, 0, bad
	}
	if hasHead {
		s.Head = p[:heads:heads]
	}
	s.Data = p[heads : heads+datas : heads+datas]
	return s, n, nil
}

// The head file holds the number of the step that set the head, and the head,
// behind a checksum. It may be older than the head in the newest spool frame,
// never than that of a record that is purged.
func encodeHead(seq uint64, head []byte) []byte {
	return withSum([]byte(headFile), append(be(seq), head...))
}

func decodeHead(b []byte) (seq uint64, head []byte, err error) {
	b, err = checkSum([]byte(headFile), b)
	if err != nil || len(b) < 8 {
		return 0, nil, fmt.Errorf("%w: head", ErrDamaged)
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}
