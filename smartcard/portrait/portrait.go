// Package portrait turns the face on a card, which anybody may have written,
// into pixels without trusting a byte of it.
//
// JPEG is decoded by Go's own decoder, which is memory-safe, after its header
// has been held against bounds. JPEG 2000 (JP2 and bare codestream, ISO/IEC
// 15444-1) has no such decoder: OpenJPEG's opj_decompress does it in a child
// process that lives for one image, with limits on memory, processor time, file
// size and wall time, with no environment, and cut off from files and network
// where the kernel can do that ([Confined]). What the child writes is foreign
// as well and is read by a strict parser.
//
// The face is personal data: it stays in memory. It reaches the child and comes
// back through memory files (memfd_create(2)); the one thing that a disk sees
// is a directory of two symbolic links, which say nothing of the person. The
// child leaves no core.
//
// Windows and records take what [Decoder.Normalise] returns: an encoding of our
// own, so that nothing but this package ever parses a card's image.
package portrait

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"time"

	"golang.org/x/image/draw"
)

// Errors of decoding. All mean that there is no picture to show; which one
// tells whose fault it is.
var (
	// ErrFormat: neither JPEG nor JPEG 2000, or malformed.
	ErrFormat = errors.New("portrait: not an image that this package reads")
	// ErrTooLarge: the image claims more than MaxInput, MaxSide or MaxPixels.
	ErrTooLarge = errors.New("portrait: image too large")
	// ErrDecoder: the program gave up, on a malformed image or for want of memory.
	ErrDecoder = errors.New("portrait: decoder failed")
	// ErrLimits: decoding was stopped at a limit, or the program died of a signal.
	ErrLimits = errors.New("portrait: decoder stopped")
	// ErrNoDecoder: the program is not installed. The text names its Debian package.
	ErrNoDecoder = errors.New("portrait: decoder not installed")
)

// Bounds of what is decoded. A full frontal image is at least 90 pixels between
// the eyes (ISO/IEC 19794-5 8.3), 35 by 45 mm at 600 dpi are 0.9 million pixels.
const (
	MaxInput  = 1 << 20 // bytes
	MaxSide   = 4096
	MaxPixels = 4 << 20

	// maxScans bounds the passes of a progressive JPEG over all its pixels; ten
	// are usual.
	maxScans = 64
)

// Decoder decodes portraits. The zero value runs opj_decompress from the
// search path under the default limits. It is safe for concurrent use.
type Decoder struct {
	// OpenJPEG is the path of opj_decompress; empty means to search for it.
	OpenJPEG string
	Limits   Limits
}

// Decode returns the pixels of a JPEG or JPEG 2000 image. It fails with one of
// this package's errors or with that of ctx.
func (d Decoder) Decode(ctx context.Context, b []byte) (image.Image, error) {
	if len(b) > MaxInput {
		return nil, fmt.Errorf("decode portrait: %w: %d bytes", ErrTooLarge, len(b))
	}
	var m image.Image
	var err error
	switch {
	case bytes.HasPrefix(b, []byte{0xFF, 0xD8, 0xFF}):
		m, err = d.decodeJPEG(ctx, b)
	case isJPEG2000(b):
		m, err = d.decodeJPEG2000(ctx, b)
	default:
		err = ErrFormat
	}
	if err != nil {
		return nil, fmt.Errorf("decode portrait: %w", err)
	}
	return m, nil
}

// Normalise decodes an image and encodes it anew as PNG, scaled down to at most
// maxPixels if it has more.
func (d Decoder) Normalise(ctx context.Context, b []byte, maxPixels int) ([]byte, error) {
	m, err := d.Decode(ctx, b)
	if err != nil {
		return nil, err
	}
	return Encode(m, maxPixels)
}

// Encode writes decoded pixels as PNG, scaled down to at most maxPixels if they
// are more.
func Encode(m image.Image, maxPixels int) ([]byte, error) {
	w, h := fit(m.Bounds().Dx(), m.Bounds().Dy(), maxPixels)
	small := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.ApproxBiLinear.Scale(small, small.Bounds(), m, m.Bounds(), draw.Src, nil)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, small); err != nil {
		return nil, fmt.Errorf("encode portrait: %w", err)
	}
	return out.Bytes(), nil
}

// fit scales w by h down to at most pixels, and to no less than one either way.
func fit(w, h, pixels int) (int, int) {
	pixels = max(pixels, 1)
	if w*h <= pixels {
		return w, h
	}
	scale := math.Sqrt(float64(pixels) / float64(w*h))
	w, h = max(int(float64(w)*scale), 1), max(int(float64(h)*scale), 1)
	return min(w, max(pixels/h, 1)), min(h, max(pixels/w, 1))
}

// within holds declared dimensions against the bounds.
func within(w, h int) error {
	switch {
	case w <= 0 || h <= 0:
		return fmt.Errorf("%w: empty", ErrFormat)
	case w > MaxSide || h > MaxSide || w*h > MaxPixels:
		return fmt.Errorf("%w: %d by %d pixels", ErrTooLarge, w, h)
	}
	return nil
}

func (d Decoder) decodeJPEG(ctx context.Context, b []byte) (image.Image, error) {
	config, err := jpeg.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := within(config.Width, config.Height); err != nil {
		return nil, err
	}
	// Between entropy-coded bytes FF is followed by 00 or by a restart marker
	// (ITU-T T.81 B.1.1.5): every scan shows, and a few that are none.
	if bytes.Count(b, []byte{0xFF, 0xDA}) > maxScans {
		return nil, fmt.Errorf("%w: more than %d scans", ErrTooLarge, maxScans)
	}
	timeout := d.Limits.orDefaults().Timeout
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := jpeg.Decode(&reader{bounded, bytes.NewReader(b)})
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case bounded.Err() != nil:
		return nil, fmt.Errorf("%w after %v", ErrLimits, timeout)
	}
	return nil, fmt.Errorf("%w: %w", ErrFormat, err)
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// Limits bound one image. Zero fields are the defaults.
type Limits struct {
	Timeout time.Duration // wall time, 10 s; whole seconds of it bound processor time
	Memory  int64         // address space of a program in bytes, 256 MiB
}

// Defaults of Limits. OpenJPEG needs less than 64 MiB for MaxPixels.
const (
	DefaultTimeout = 10 * time.Second
	DefaultMemory  = 256 << 20
)

func (l Limits) orDefaults() Limits {
	if l.Timeout <= 0 {
		l.Timeout = DefaultTimeout
	}
	if l.Memory <= 0 {
		l.Memory = DefaultMemory
	}
	return l
}
