package kiosk

import "context"

// replaceLost gives a citizen whose token is lost, or whose identity was ended, a
// new key. Which identity it was, the receipt says; that it is the same person, the
// vault holds against the document. A second officer agrees, as the old key does
// not sign.
func (e *enrollment) replaceLost(ctx context.Context) (err error) {
	if e.lost, err = e.holderOfReceipt(ctx); err != nil {
		return err
	}
	return e.run(ctx)
}

// holderOfReceipt has a receipt scanned, of whichever kiosk, and asks the registry whose
// record it is. The registry tells a DID and no person.
func (e *enrollment) holderOfReceipt(ctx context.Context) (did string, err error) {
	defer func(was bool) { e.d.aside = was }(e.d.aside)
	e.d.aside = true
	shown, err := e.scanReceipt(ctx)
	if err != nil {
		return "", err
	}
	err = e.try(ctx, func(ctx context.Context) error {
		return e.stepper(ScreenAskRegistry, StepAskRegistry).run(ctx, StepAskRegistry, registryFault, func(ctx context.Context) (err error) {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Delivery)
			defer cancel()
			did, err = e.registry.Holder(ctx, shown)
			return err
		})
	})
	return did, err
}

// renewCard seals a citizen's new document under the key that the citizen has. The
// receipt comes with a new cancel code; the token stays as it is.
func (e *enrollment) renewCard(ctx context.Context) error {
	e.renews = true
	return e.run(ctx)
}
