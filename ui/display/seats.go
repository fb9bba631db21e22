package display

// Seats says by name whose display is whose; "" is not known. A display keeps its
// seat: what was the citizen's never becomes the officer's by being the only one
// left.
type Seats struct{ Officer, Citizen string }

// Plan says where each window stands; nil is nowhere. Where only one stands, it is
// for officer and citizen in turn.
type Plan struct{ Officer, Citizen *Display }

// Alone says that there is one display for both.
func (p Plan) Alone() bool { return (p.Officer == nil) != (p.Citizen == nil) }

// Arrange gives the displays that there are, in the order of Server.Displays, to
// officer and citizen, and returns the seats as known from then on.
func (s Seats) Arrange(displays []Display) (Seats, Plan) {
	var p Plan
	named := func(name string) *Display {
		for i := range displays {
			if name != "" && displays[i].Name == name {
				return &displays[i]
			}
		}
		return nil
	}
	// free is the first display that has no seat, or sits at an absent one's.
	free := func(taken *Display, others string) *Display {
		for i := range displays {
			if d := &displays[i]; d != taken && d.Name != others {
				return d
			}
		}
		return nil
	}
	p.Officer, p.Citizen = named(s.Officer), named(s.Citizen)
	if p.Officer == nil {
		p.Officer = free(p.Citizen, s.Citizen)
	}
	if p.Citizen == nil {
		p.Citizen = free(p.Officer, s.Officer)
	}
	if p.Officer != nil {
		s.Officer = p.Officer.Name
	}
	if p.Citizen != nil {
		s.Citizen = p.Citizen.Name
	}
	return s, p
}
