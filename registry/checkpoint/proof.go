package checkpoint

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
)

// Proof is a log for where there is no network: a signed checkpoint, and the tiles
// that prove smaller trees to be beginnings of its own. It is Files. Who reads it
// believes none of it: the checkpoint is Log.Open's to verify, the tiles are Tree's.
type Proof struct {
	Checkpoint string            `json:"checkpoint"` // a signed note
	Tiles      map[string][]byte `json:"tiles"`      // by their path in the log
}

// MaxProof is the largest Proof, in bytes of its JSON.
const MaxProof = 1 << 20

// maxTiles leaves room for a checkpoint in MaxProof.
const maxTiles = MaxProof - 2*MaxSize

// Prove gathers the tiles of a checkpoint that prove its beginnings of these sizes;
// those that are larger than it are left out, and the last ones if it gets too
// large. Errors are Tree.Root's.
func Prove(ctx context.Context, files Files, of Checkpoint, sizes ...uint64) (Proof, error) {
	g := &gathering{from: files, got: map[string][]byte{}}
	tree := NewTree(g, of)
	out := Proof{Checkpoint: string(of.Bytes())}
	for _, size := range sizes {
		if size == 0 || size >= of.Size() {
			continue
		}
		before := maps.Clone(g.got)
		if _, err := tree.Root(ctx, size); err != nil {
			return Proof{}, err
		}
		if g.size > maxTiles {
			g.got = before
			break
		}
	}
	out.Tiles = g.got
	return out, nil
}

// Bytes is the proof as JSON.
func (p Proof) Bytes() []byte {
	b, err := json.Marshal(p)
	if err != nil { // strings and bytes
		panic(err)
	}
	return b
}

// ParseProof reads Bytes. Errors wrap ErrForm.
func ParseProof(b []byte) (p Proof, err error) {
	if len(b) > MaxProof {
		return Proof{}, fmt.Errorf("%w: a proof of %d bytes", ErrForm, len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Proof{}, fmt.Errorf("%w: proof: %w", ErrForm, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Proof{}, fmt.Errorf("%w: something behind the proof", ErrForm)
	}
	return p, nil
}

// Read is that of Files.
func (p Proof) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	b, ok := p.Tiles[path]
	switch {
	case path == PathCheckpoint && p.Checkpoint != "":
		b = []byte(p.Checkpoint)
	case !ok:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrTiles, path, len(b))
	}
	return b, nil
}

// gathering keeps what is read.
type gathering struct {
	from Files
	got  map[string][]byte
	size int // of got as JSON
}

func (g *gathering) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	b, err := g.from.Read(ctx, path, limit)
	if _, known := g.got[path]; err == nil && !known {
		g.got[path] = b
		g.size += base64.StdEncoding.EncodedLen(len(b)) + len(path) + len(`"":"",`)
	}
	return b, err
}
