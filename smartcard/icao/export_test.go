package icao

// OpenWithRandom is Open with a random source of the test's choice.
var OpenWithRandom = open
