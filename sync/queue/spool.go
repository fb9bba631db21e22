package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
// its own would cost two and the creation of an inode, which is dearer still;
// records that arrive together share it. Behind the frames of the file that grows
// stand zeroes, written ahead.
//
// A file that grows no more ends with an index of its records that are not purged,
// so that opening need not read the rest:
//
//	magic "EKINDEX1" | count 4 | count times: id 32, seq 8, offset 4, size 4, SHA-256 of the data 32 | SHA-256 of all before | length of all before 4
//
// It is worth no sync: a file without one is read to its end. A file is removed when
// the last of its records is purged; none is continued after a restart.
const (
	frameMagic  = "EKSPOOL1"
	frameHeader = len(frameMagic) + 32 + 8 + 8 + 4 + 4
	noHead      = 1<<32 - 1
	maxFrame    = frameHeader + MaxHead + MaxData + sha256.Size

	indexMagic = "EKINDEX1"
	indexEntry = 32 + 8 + 4 + 4 + sha256.Size
	maxIndex   = len(indexMagic) + 4 + (segmentSize+maxFrame)/(frameHeader+sha256.Size)*indexEntry + sha256.Size + 4

	segmentSize = 1 << 20 // a file that has reached it is not continued
	aheadSize   = 256 << 10
	maxSegment  = segmentSize + maxFrame + max(aheadSize, maxIndex)
)

type spooled struct {
	Item
	seq uint64
	put time.Time
}

// place is where a record's frame stands, and the SHA-256 of its data.
type place struct {
	segment uint64
	offset  int64
	size    int
	seq     uint64
	digest  [sha256.Size]byte
}

type spool struct {
	files
	live map[uint64]int // by file, the records in it that are not purged; under mu
	last uint64         // number of the newest file
	now  *appender      // the newest file; nil when the next frame begins another
	undo int64          // its size before the last frames

	mu sync.Mutex // readers do not wait for a writer's disk
	at map[ID]place
}

func segmentName(n uint64) string { return filepath.Join(spoolDir, strconv.FormatUint(n, 10)) }

// add appends frames of records, durably: all of them or none. Together they are
// no longer than segmentSize, or one.
func (s *spool) add(records ...spooled) error {
	if s.now != nil && s.now.size >= segmentSize {
		if err := s.end(true); err != nil {
			return err
		}
	}
	if s.now == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	var b []byte
	places := make([]place, len(records))
	for i, r := range records {
		offset := len(b)
		b = appendFrame(b, r)
		places[i] = place{s.last, s.now.size + int64(offset), len(b) - offset, r.seq, sha256.Sum256(r.Data)}
	}
	undo := s.now.size
	if err := s.now.append(b); err != nil {
		return err
	}
	s.undo = undo
	for i, r := range records {
		s.adopt(r.ID, places[i])
	}
	return nil
}

// takeBack removes what add has just added.
func (s *spool) takeBack(records ...spooled) error {
	for _, r := range records {
		s.forget(r.ID)
	}
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
	s.now = &appender{files: s.files, name: name, f: f, ahead: aheadSize}
	return nil
}

// end is the end of the newest file; sealed, when the database knows every record
// in it.
func (s *spool) end(sealed bool) error {
	if s.now == nil {
		return nil
	}
	f := s.now
	s.now = nil
	if sealed {
		s.seal(f.f, s.last, f.size)
	}
	return f.f.Close()
}

// seal writes a file's index behind size. That it fails is no harm: then the file
// is read.
func (s *spool) seal(f *os.File, number uint64, size int64) {
	if s.before("seal", segmentName(number)) != nil {
		return
	}
	b := s.index(number)
	if _, err := f.WriteAt(b, size); err == nil {
		size += int64(len(b))
	}
	f.Truncate(size)
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

// forget takes a record off its file's count, and returns what is left of that.
func (s *spool) forget(id ID) (live int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.at[id]
	if !ok {
		return 0
	}
	delete(s.at, id)
	live = s.live[p.segment] - 1
	if s.live[p.segment] = live; live == 0 {
		delete(s.live, p.segment)
	}
	return live
}

// numbers lists the files that hold records.
func (s *spool) numbers() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.live))
}

// in lists the records whose frames stand in a file, in their order.
func (s *spool) in(number uint64) (ids []ID, places []place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, p := range s.at {
		if p.segment == number {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b ID) int { return cmp.Compare(s.at[a].offset, s.at[b].offset) })
	for _, id := range ids {
		places = append(places, s.at[id])
	}
	return ids, places
}

// drop removes a record, which here means: its file when no other is in it. The
// removal need not be durable: a file too many is found at the next opening.
func (s *spool) drop(id ID) error {
	p, ok := s.place(id)
	if !ok {
		return nil
	}
	if s.forget(id) > 0 {
		return nil
	}
	if p.segment == s.last {
		if err := s.end(false); err != nil {
			return err
		}
	}
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

// frame is what is known of a frame without keeping its record in memory. put and
// head are known of those that were read, not of those in an index.
type frame struct {
	place
	id   ID
	put  time.Time
	head []byte
}

// segment is a file of the spool as it was found.
type segment struct {
	number  uint64
	frames  []frame
	indexed bool  // frames are from its index
	size    int64 // without zeroes and index; of one that was read
	bad     int64 // where the first bytes stand that are in no frame; -1 for none
}

// load reads the spool, whole or by the indexes where there are some. strange are
// names that no file of the spool has.
func (s *spool) load(ctx context.Context, whole bool) (segments []segment, strange []string, err error) {
	names, err := os.ReadDir(s.path(spoolDir))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, f := range names {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n, err := strconv.ParseUint(f.Name(), 10, 32)
		if err != nil || segmentName(n) != filepath.Join(spoolDir, f.Name()) {
			strange = append(strange, filepath.Join(spoolDir, f.Name()))
			continue
		}
		s.last = max(s.last, n)
		found, err := s.loadSegment(n, whole)
		if err != nil {
			strange = append(strange, filepath.Join(spoolDir, f.Name()))
			continue
		}
		segments = append(segments, found)
	}
	return segments, strange, nil
}

func (s *spool) loadSegment(n uint64, whole bool) (segment, error) {
	if !whole {
		if frames, err := readIndex(s.path(segmentName(n)), n); err == nil {
			return segment{number: n, frames: frames, indexed: true, bad: -1}, nil
		}
	}
	b, err := readBounded(s.path(segmentName(n)), int64(maxSegment))
	if err != nil {
		return segment{}, err
	}
	found := segment{number: n}
	found.size, found.bad = scan(b, func(r spooled, offset int64, size int) {
		found.frames = append(found.frames, frame{place{n, offset, size, r.seq, sha256.Sum256(r.Data)}, r.ID, r.put, bytes.Clone(r.Head)})
	})
	return found, nil
}

// scan calls f with each frame of a file, and returns where the last one ends and
// where the first bytes stand that are in none, -1 for none such: zeroes to the
// end, and an index, are nothing. Damage costs the frames it touches and no others.
func scan(b []byte, f func(r spooled, offset int64, size int)) (size, bad int64) {
	bad = -1
	zeroes := len(bytes.TrimRight(b, "\x00")) // from here on
	for off := 0; off < zeroes; {
		r, n, err := decodeFrame(b[off:])
		if err == nil {
			f(r, int64(off), n)
			off += n
			size = int64(off)
			continue
		}
		if _, n, err := decodeIndex(b[off:], 0); err == nil {
			off += n
			continue
		}
		if bad < 0 {
			bad = int64(off)
		}
		next := bytes.Index(b[off+1:], []byte(frameMagic))
		if next < 0 {
			break
		}
		off += next + 1
	}
	return size, bad
}

func appendFrame(b []byte, r spooled) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = append(b, r.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, r.seq)
	b = binary.BigEndian.AppendUint64(b, uint64(r.put.UnixNano()))
	n := uint32(noHead)
	if r.Head != nil {
		n = uint32(len(r.Head))
	}
	b = binary.BigEndian.AppendUint32(b, n)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	b = append(b, r.Head...)
	b = append(b, r.Data...)
	sum := sha256.Sum256(b[start:])
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

// index is the index of a file, of the records in it that are not purged.
func (s *spool) index(number uint64) []byte {
	ids, places := s.in(number)
	b := binary.BigEndian.AppendUint32([]byte(indexMagic), uint32(len(ids)))
	for i, p := range places {
		b = append(b, ids[i][:]...)
		b = binary.BigEndian.AppendUint64(b, p.seq)
		b = binary.BigEndian.AppendUint32(b, uint32(p.offset))
		b = binary.BigEndian.AppendUint32(b, uint32(p.size))
		b = append(b, p.digest[:]...)
	}
	sum := sha256.Sum256(b)
	b = append(b, sum[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(len(b)))
}

// decodeIndex reads the index that b begins with, and its length.
func decodeIndex(b []byte, number uint64) (frames []frame, n int, err error) {
	bad := fmt.Errorf("%w: spool index", ErrDamaged)
	header := len(indexMagic) + 4
	if len(b) < header || string(b[:len(indexMagic)]) != indexMagic {
		return nil, 0, bad
	}
	count := int64(binary.BigEndian.Uint32(b[len(indexMagic):]))
	end := int64(header) + count*int64(indexEntry)
	if int64(len(b)) < end+sha256.Size+4 || binary.BigEndian.Uint32(b[end+sha256.Size:]) != uint32(end+sha256.Size) {
		return nil, 0, bad
	}
	if want := sha256.Sum256(b[:end]); !bytes.Equal(b[end:end+sha256.Size], want[:]) {
		return nil, 0, bad
	}
	for p := b[header:end]; len(p) > 0; p = p[indexEntry:] {
		frames = append(frames, frame{id: ID(p[:32]), place: place{number, int64(binary.BigEndian.Uint32(p[40:])), int(binary.BigEndian.Uint32(p[44:])),
			binary.BigEndian.Uint64(p[32:]), [sha256.Size]byte(p[48:])}})
	}
	return frames, int(end) + sha256.Size + 4, nil
}

// readIndex reads the index at the end of a file.
func readIndex(file string, number uint64) ([]frame, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() < 4 || info.Size() > int64(maxSegment) {
		return nil, fmt.Errorf("%w: spool index", ErrDamaged)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	last := func(n int64) ([]byte, error) {
		if n > info.Size() {
			return nil, fmt.Errorf("%w: spool index", ErrDamaged)
		}
		b := make([]byte, n)
		_, err := f.ReadAt(b, info.Size()-n)
		if err == io.EOF {
			err = nil
		}
		return b, err
	}
	b, err := last(4)
	if err != nil {
		return nil, err
	}
	if b, err = last(int64(binary.BigEndian.Uint32(b)) + 4); err != nil {
		return nil, err
	}
	frames, n, err := decodeIndex(b, number)
	if err == nil && n != len(b) {
		err = fmt.Errorf("%w: spool index", ErrDamaged)
	}
	room := info.Size() - int64(n)
	for _, p := range frames {
		if p.offset+int64(p.size) > room || p.size < frameHeader || p.size > maxFrame {
			err = fmt.Errorf("%w: spool index", ErrDamaged)
		}
	}
	return frames, err
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
