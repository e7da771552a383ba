import Devices
import Foundation
import Links
import Memory
import Region
import Remote
import Testing

@testable import LinkBench

@Suite(.serialized) struct BenchTests {
  @Test func samplesSayWhatTheyAre() {
    let samples = Samples(microseconds: [4, 1, 3, 2])
    #expect(samples.count == 4 && samples.minimum == 1 && samples.maximum == 4 && samples.mean == 2.5)
    #expect(samples.standardDeviation == 1.25.squareRoot())
    #expect([0, 25, 25.1, 50, 99, 100].map(samples.percentile) == [1, 1, 2, 2, 4, 4])
    #expect(Samples(microseconds: []).percentile(50).isNaN)
    #expect(Figure(host: "h", what: .result, sequence: .own, byteCount: 5000, samples: samples).throughput == 2500)
  }

  @Test func pingsAreParsed() {
    let text = """
      PING 127.0.0.1 (127.0.0.1) 56(84) bytes of data.
      64 bytes from 127.0.0.1: icmp_seq=1 ttl=64 time=0.018 ms
      64 bytes from 127.0.0.1: icmp_seq=2 ttl=64 time=1.5 ms

      2 packets transmitted, 2 received, 0% packet loss, time 1001ms
      rtt min/avg/max/mdev = 0.018/0.759/1.500/0.741 ms
      """
    #expect(Ping.parse(text) == [18, 1500])
  }

  /// A monitor over 8 MiB, with slots that the larger sizes do not fit.
  private func withMonitor(_ body: (LinkAddress, CPUDevice, SharedRegion) throws -> Void) throws {
    let path = "/tmp/grass-bench-test-\(UInt64.random(in: 0 ... .max))"
    let region = try SharedRegion(path: path, layout: RegionLayout(slots: 8, responseSize: 256 * 1024))
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 8 << 20, alignment: 4096)
    memory.initializeMemory(as: UInt8.self, repeating: 0x5a, count: 8 << 20)
    defer { memory.deallocate() }
    let segment = MemorySegment(start: PhysicalAddress(0), count: 8 << 20)
    let device = try CPUDevice(
      region: region, segments: [MappedSegment(bytes: UnsafeRawPointer(memory), segment: segment)], owner: nil)
    defer { device.stop() }
    try body(.sharedMemory(path: path), device, region)
  }

  @Test(arguments: [Figure.What.heartbeat, .request, .result], [0, 8, 1000, 65536, 1_000_001])
  func everySequenceIsMeasured(_ what: Figure.What, _ byteCount: Int) throws {
    guard (what == .heartbeat) == (byteCount == 0) else { return }
    try withMonitor { address, _, _ in
      let benchmark = try LinkBenchmark(address, slots: 4)
      let figures = try benchmark.measure(
        what, byteCount: byteCount, sequences: [.own, .paper], count: 25, limit: .seconds(20))
      #expect(figures.map(\.sequence) == [.own, .paper])
      for figure in figures {
        #expect(figure.samples.count == 25 && figure.samples.minimum > 0)
        #expect(figure.byteCount == byteCount && figure.what == what)
      }
    }
  }

  /// A million heartbeats and a hundred thousand requests over each link where `GRASS_SOAK` is set, else a hundredth.
  @Test(arguments: ["shm", "tcp"]) func nothingIsLostAndMemoryStaysFlat(_ scheme: String) throws {
    let share = ProcessInfo.processInfo.environment["GRASS_SOAK"] == nil ? 100 : 1
    try withMonitor { address, _, region in
      let responder = try TCPResponder(region: region, host: "127.0.0.1", port: 0)
      defer { responder.stop() }
      var growth: [Int] = []
      // Both sides are in this process, and so are other tests: what only once grows is theirs.
      while growth.count < 4, growth.allSatisfy({ $0 >= 8192 }) {
        let outcome = try Soak(heartbeats: 1_000_000 / share, requests: 100_000 / share).run(
          scheme == "shm" ? address : responder.address)
        #expect(outcome.answered == 1_100_000 / share && outcome.served == outcome.answered)
        growth.append(try #require(outcome.residentAfter[0]) - #require(outcome.residentBefore[0]))
      }
      #expect((growth.min() ?? 0) < 8192, "resident memory grew by \(growth) KiB, time after time")
    }
  }

  @Test func aStoppedMonitorIsAnError() throws {
    try withMonitor { address, device, _ in
      let benchmark = try LinkBenchmark(address, timeout: .milliseconds(100))
      device.stop()
      for sequence in Figure.Sequence.allCases {
        let error = #expect(throws: SessionError.self) {
          try benchmark.measure(.heartbeat, byteCount: 0, sequences: [sequence], count: 1, limit: .seconds(1))
        }
        #expect(error?.reason == .noAnswer)
      }
    }
  }

  private static let hasGnuplot = ["/usr/bin/gnuplot", "/usr/local/bin/gnuplot"].contains {
    FileManager.default.isExecutableFile(atPath: $0)
  }

  @Test(.enabled(if: hasGnuplot), arguments: [Plot.Format.svg, .png]) func figuresAreDrawn(_ format: Plot.Format) throws
  {
    // A host whose name would end the script's strings.
    let host = "shm:///it's\\\"`x`"
    var all: [Figure] = []
    for sequence in [Figure.Sequence.own, .paper] {
      for what in [Figure.What.heartbeat, .request, .result] {
        for byteCount in what == .heartbeat ? [0] : [1024, 65536, 4 << 20] {
          all.append(
            Figure(
              host: host, what: what, sequence: sequence, byteCount: byteCount,
              samples: Samples(microseconds: [10 + Double(byteCount) / 1000, 12])))
        }
      }
    }
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("grass-plot-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Plot.draw(all, as: format, to: path)
    let bytes = try #require(FileManager.default.contents(atPath: path))
    switch format {
    case .png: #expect(bytes.starts(with: [0x89, 0x50, 0x4e, 0x47]) && bytes.count > 5000)
    case .svg:
      let text = String(decoding: bytes, as: UTF8.self)
      #expect(text.contains("</svg>") && text.contains("Throughput") && text.contains("64K"))
    }
  }

  @Test func aPlotThatCannotBeWrittenIsAnError() {
    let one = Figure(
      host: "h", what: .ping, sequence: nil, byteCount: 0, samples: Samples(microseconds: [1]))
    #expect(throws: Plot.Failure.self) { try Plot.draw([one], as: .svg, to: "/nonexistent/plot.svg") }
  }
}
