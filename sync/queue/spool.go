package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The spool holds the records' bytes, twice: a row of pairs of files that only
// grow, spool/1.1 and spool/1.2, spool/2.1 and spool/2.2, ..., the two of a pair
// alike. Each is a row of frames. A frame is one record, as it was put:
//
//	magic "EKFRAME2" | id 32 | seq 8 | put 8 | head length 4 | data length 4 | SHA-256 of the data 32 | head | SHA-256 of all before 32 | data
//
// Numbers are big-endian; put is nanoseconds since 1970; a head length of
// noHead means that the item had none. A frame costs two syncs, made at once, where
// files of its own would cost more and the creation of inodes, which is dearer still;
// records that arrive together share them. Behind the frames of a file that grows
// stand zeroes, written ahead.
//
// A pair is removed when the last of its records is purged; none is continued after
// a restart. Where a record's frame stands, the database knows.
const (
	frameMagic  = "EKFRAME2"
	frameHeader = len(frameMagic) + 32 + 8 + 8 + 4 + 4 + sha256.Size
	noHead      = 1<<32 - 1
	maxFrame    = frameHeader + MaxHead + sha256.Size + MaxData

	segmentSize = 1 << 20 // a file that has reached it is not continued
	aheadSize   = 256 << 10
	maxSegment  = segmentSize + maxFrame + aheadSize

	copies = 2
)

type spooled struct {
	Item
	seq    uint64
	put    time.Time
	digest [sha256.Size]byte // of the data
}

// place is where a record's frame stands, in both files of a pair. The zero place
// is nowhere.
type place struct {
	segment uint64
	offset  int64
	size    int
}

type spool struct {
	files
	last uint64            // number of the newest pair
	now  [copies]*appender // the newest pair; nil when the next frame begins another
	born bool              // its names are not durable yet

	frames []byte // room for those of one write
}

func copyName(segment uint64, n int) string {
	return filepath.Join(spoolDir, fmt.Sprintf("%d.%d", segment, n+1))
}

// parseCopyName is copyName's inverse.
func parseCopyName(name string) (segment uint64, n int, ok bool) {
	number, digit, _ := strings.Cut(name, ".")
	segment, err := strconv.ParseUint(number, 10, 64)
	n, err2 := strconv.Atoi(digit)
	n--
	ok = err == nil && err2 == nil && n >= 0 && n < copies && copyName(segment, n) == filepath.Join(spoolDir, name)
	return segment, n, ok
}

// ready begins a pair when the newest is full, so that the next record need not
// wait for that.
func (s *spool) ready() error {
	if s.now[0] != nil && s.now[0].size >= segmentSize {
		if err := s.end(); err != nil {
			return err
		}
	}
	if s.now[0] == nil {
		return s.begin()
	}
	return nil
}

// add appends frames of records to both copies, durably: all of them or none.
// Together they are no longer than segmentSize, or one.
func (s *spool) add(records []spooled) ([]place, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	size := 0
	for _, r := range records {
		size += frameSize(r)
	}
	b := slices.Grow(s.frames[:0], size)
	s.frames = b
	places := make([]place, len(records))
	for i, r := range records {
		offset := len(b)
		b = appendFrame(b, r)
		places[i] = place{s.last, s.now[0].size + int64(offset), len(b) - offset}
	}
	for i, a := range s.now {
		if err := a.write(b); err != nil {
			for _, written := range s.now[:i] {
				err = errors.Join(err, written.forget())
			}
			return nil, err
		}
	}
	if err := s.sync(); err != nil {
		return nil, err
	}
	for _, a := range s.now {
		a.size += int64(len(b))
	}
	return places, nil
}

// sync syncs both copies, and their directory when they are new, at once.
func (s *spool) sync() error {
	for _, a := range s.now {
		if err := a.announceSync(a.name); err != nil {
			return err
		}
	}
	var errs [copies + 1]error
	var wg sync.WaitGroup
	if s.born {
		if err := s.announceSyncDir(spoolDir); err != nil {
			return err
		}
		wg.Go(func() { errs[copies] = s.dirsync(spoolDir) })
	}
	wg.Go(func() { errs[1] = s.datasync(s.now[1].f, s.now[1].name) })
	errs[0] = s.datasync(s.now[0].f, s.now[0].name)
	wg.Wait()
	err := errors.Join(errs[:]...)
	s.born = s.born && err != nil
	return err
}

// takeBack removes, durably, what add has just added behind size.
func (s *spool) takeBack(size int64) error {
	for _, a := range s.now {
		if err := a.cut(size); err != nil {
			return err
		}
	}
	return nil
}

func (s *spool) begin() error {
	s.last++
	var now [copies]*appender
	for n := range now {
		name := copyName(s.last, n)
		err := s.before("create", name)
		var f *os.File
		if err == nil {
			f, err = os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		}
		if err != nil {
			for k, a := range now[:n] {
				err = errors.Join(err, a.f.Close(), os.Remove(s.path(copyName(s.last, k))))
			}
			return err
		}
		now[n] = &appender{files: s.files, name: name, f: f, ahead: aheadSize, whole: segmentSize}
	}
	s.now, s.born = now, true
	return nil
}

// end is the end of the newest pair. What was written ahead goes.
func (s *spool) end() (err error) {
	for i, a := range s.now {
		if a != nil {
			a.f.Truncate(a.size) // it need not be
			err = errors.Join(err, a.f.Close())
		}
		s.now[i] = nil
	}
	return err
}

// drop removes a pair. The removal need not be durable: a file too many is found at
// the next opening.
func (s *spool) drop(segment uint64) error {
	if segment == s.last {
		if err := s.end(); err != nil {
			return err
		}
	}
	for n := range copies {
		if err := s.remove(copyName(segment, n)); err != nil {
			return err
		}
	}
	return nil
}

// read reads a record's frame from the first copy that has it whole.
func (s *spool) read(e Entry) (r spooled, err error) {
	for n := range copies {
		if r, err = s.readCopy(e, n); err == nil {
			return r, nil
		}
	}
	return r, err
}

func (s *spool) readCopy(e Entry, n int) (spooled, error) {
	if e.at.segment == 0 {
		return spooled{}, fmt.Errorf("%w: not in the spool", ErrDamaged)
	}
	f, err := os.Open(s.path(copyName(e.at.segment, n)))
	if err != nil {
		return spooled{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer f.Close()
	b := make([]byte, e.at.size)
	if _, err := f.ReadAt(b, e.at.offset); err != nil {
		return spooled{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r, size, err := decodeFrame(b)
	if err == nil && (size != e.at.size || r.ID != e.ID || !bytes.Equal(r.digest[:], e.Digest)) {
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
	digest [sha256.Size]byte
	length int // of the data
	head   []byte
}

// segment is a pair of files as it was found.
type segment struct {
	number uint64
	frames []frame // that one copy or the other has whole, in their order
	size   int64   // where the last one ends
	copies [copies]found
}

// found is one file of a pair.
type found struct {
	content []byte // nil when it is not there
	lacks   int    // frames that only the other has whole
	bad     int64  // where the first bytes stand that are in no frame; -1 for none
}

// list finds the pairs by their number. strange are names that no file of the spool
// has; old says that one of them is of the format before.
func (s *spool) list() (numbers map[uint64]bool, strange []string, err error) {
	names, err := os.ReadDir(s.path(spoolDir))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	numbers = map[uint64]bool{}
	for _, f := range names {
		number, _, ok := parseCopyName(f.Name())
		switch {
		case ok && f.Type().IsRegular():
			numbers[number] = true
		case ok, filepath.Ext(f.Name()) != tmpSuffix:
			strange = append(strange, filepath.Join(spoolDir, f.Name()))
		default:
			os.Remove(s.path(filepath.Join(spoolDir, f.Name()))) // it was being written
		}
	}
	return numbers, strange, nil
}

// load reads a pair.
func (s *spool) load(number uint64) (found segment, err error) {
	found.number = number
	at := map[int64]frame{}
	var has [copies]map[int64]bool
	for n := range copies {
		c := &found.copies[n]
		c.bad = -1
		has[n] = map[int64]bool{}
		c.content, err = readBounded(s.path(copyName(number, n)), int64(maxSegment))
		if errors.Is(err, ErrDamaged) { // no file, or too large for one: all of it is bad
			c.content, c.bad, err = []byte{}, 0, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return found, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		bad := scan(c.content, func(r spooled, offset int64, size int) {
			has[n][offset] = true
			at[offset] = frame{place{number, offset, size}, r.ID, r.seq, r.put, r.digest, len(r.Data), bytes.Clone(r.Head)}
		})
		if c.bad < 0 {
			c.bad = bad
		}
	}
	for offset, f := range at {
		found.frames = append(found.frames, f)
		found.size = max(found.size, offset+int64(f.size))
		for n := range copies {
			if !has[n][offset] {
				found.copies[n].lacks++
			}
		}
	}
	slices.SortFunc(found.frames, func(a, b frame) int { return cmp.Compare(a.offset, b.offset) })
	return found, nil
}

// merged is what both files of a pair should hold: every frame that one of them has.
func (s segment) merged() []byte {
	b := make([]byte, s.size)
	for _, f := range s.frames {
		for _, c := range s.copies {
			if end := f.offset + int64(f.size); end <= int64(len(c.content)) {
				if _, n, err := decodeFrame(c.content[f.offset:end]); err == nil && n == f.size {
					copy(b[f.offset:], c.content[f.offset:end])
					break
				}
			}
		}
	}
	return b
}

// loadAll reads pairs, a few of which are enough where the database is whole.
func (s *spool) loadAll(ctx context.Context, numbers []uint64) (out []segment, err error) {
	for _, n := range numbers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found, err := s.load(n)
		if err != nil {
			return nil, err
		}
		out = append(out, found)
	}
	return out, nil
}

// scan calls f with each frame of a file, and returns where the first bytes stand
// that are in none, -1 for none such: zeroes to the end are nothing. Damage costs
// the frames it touches and no others.
func scan(b []byte, f func(r spooled, offset int64, size int)) (bad int64) {
	bad = -1
	zeroes := len(bytes.TrimRight(b, "\x00")) // from here on
	for off := 0; off < zeroes; {
		r, n, err := decodeFrame(b[off:])
		if err == nil {
			f(r, int64(off), n)
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
	return bad
}

func frameSize(r spooled) int { return frameHeader + len(r.Head) + sha256.Size + len(r.Data) }

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
	b = append(b, r.digest[:]...)
	b = append(b, r.Head...)
	sum := sha256.Sum256(b[start:])
	b = append(b, sum[:]...)
	return append(b, r.Data...)
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
	s.digest, p = [sha256.Size]byte(p), p[sha256.Size:]
	hasHead := heads != noHead
	if !hasHead {
		heads = 0
	}
	sums := frameHeader + int(heads)
	n = sums + sha256.Size + int(datas)
	if heads > MaxHead || datas == 0 || datas > MaxData || len(b) < n {
		return s, 0, bad
	}
	if hasHead {
		s.Head = p[:heads:heads]
	}
	s.Data = b[sums+sha256.Size : n : n]
	if [sha256.Size]byte(b[sums:]) != sha256.Sum256(b[:sums]) || s.digest != sha256.Sum256(s.Data) {
		return spooled{}, 0, bad
	}
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
