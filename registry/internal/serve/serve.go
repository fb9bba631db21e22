// Package serve runs the HTTP servers of registry, issuer, vault and witness until
// they are to end.
package serve

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Until runs serve, which is s's, until ctx ends. What is being asked then gets wait
// to be answered; whoever is still connected afterwards sends again. beside ends
// what goes with the server, within what is left of wait; nil: nothing does.
//
// The error is serve's if that ends by itself, and beside's.
func Until(ctx context.Context, s *http.Server, wait time.Duration, serve func() error, beside func(context.Context) error) error {
	if beside == nil {
		beside = func(context.Context) error { return nil }
	}
	ended := make(chan error, 1)
	go func() { ended <- serve() }()
	select {
	case err := <-ended:
		return errors.Join(err, beside(context.WithoutCancel(ctx)))
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	if err := s.Shutdown(last); err != nil {
		s.Close()
	}
	err := beside(last)
	<-ended
	return err
}
