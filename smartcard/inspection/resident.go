package inspection

import (
	"context"
	"time"

	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/prcid"
)

// Module reads resident identity cards; prcid.Module behind its line is one.
type Module interface {
	Read(ctx context.Context, progress func(prcid.Progress)) (prcid.Document, error)
}

// ResidentOptions are what the caller accepts.
type ResidentOptions struct {
	Now      func() time.Time
	Unsigned identity.Unsigned
}

type resident struct {
	module  Module
	options ResidentOptions
	holder  identity.Holder
}

// Resident is the procedure for a card on a police module. Nothing it reads is
// signed: without ResidentOptions.Unsigned.Accept it fails before it reads.
func Resident(m Module, opts ResidentOptions) Document {
	return &resident{module: m, options: opts}
}

func (r *resident) Kind() identity.Kind { return identity.PRCResident }

func (r *resident) Read(ctx context.Context, progress func(Progress)) (identity.Holder, error) {
	if !r.options.Unsigned.Accept {
		return identity.Holder{}, identity.ErrUnsigned
	}
	tell(progress, Progress{Step: Files})
	doc, err := r.module.Read(ctx, func(p prcid.Progress) { tell(progress, Progress{Files, p.Read, p.Total}) })
	if err != nil {
		return identity.Holder{}, err
	}
	tell(progress, Progress{Step: Verify})
	r.holder, err = identity.OfResident(doc, r.options.Now(), r.options.Unsigned)
	return r.holder, err
}

// Signs is false: the card speaks to its module alone.
func (r *resident) Signs() bool { return false }

func (r *resident) Bind(context.Context, [32]byte) (identity.Holder, error) {
	if !r.holder.Valid() {
		return identity.Holder{}, identity.ErrNotVerified
	}
	return r.holder, nil
}

func (r *resident) Close() {}
