import ArgumentParser

struct Heartbeat: ParsableCommand { func run() throws {} }
