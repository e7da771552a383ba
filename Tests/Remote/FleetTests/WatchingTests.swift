import Testing

@testable import Fleet

/// The pieces that watching stands on.
struct WatchingTests {
  @Test func whatIsDueComesInOrder() {
    var queue = DueQueue<Int>()
    for due in (0..<500).shuffled() { queue.push(due, due: UInt64(due)) }
    #expect(queue.first == 0 && queue.pop(dueBy: 249) == 0)
    var taken: [Int] = [0]
    while let next = queue.pop(dueBy: 249) { taken.append(next) }
    #expect(taken == Array(0..<250) && queue.first == 250)
    while let next = queue.pop(dueBy: .max) { taken.append(next) }
    #expect(taken == Array(0..<500) && queue.isEmpty)
  }

  @Test func aFollowerThatIsSlowLosesTheOldestAndHoldsNobodyUp() async throws {
    let hub = EventHub()
    let slow = try #require(hub.follow())
    for number in 0..<1000 { hub.publish(FleetEvent(.state, host: "\(number)", json: [])) }
    hub.close()
    var hosts: [String] = []
    for await event in slow { hosts.append(event.host) }
    #expect(hosts == (744..<1000).map { "\($0)" })
    #expect(hub.follow() == nil && hub.count == 0)
  }

  @Test func aPoolDoesAllItWasGivenAndEnds() async throws {
    let pool = try WorkPool(name: "test", threads: 3)
    let sum = await withTaskGroup(of: Int.self) { group in
      for number in 0..<1000 {
        group.addTask { await withCheckedContinuation { done in pool.add { done.resume(returning: number) } } }
      }
      return await group.reduce(0, +)
    }
    #expect(sum == 499_500)
    pool.finish()
  }

  @Test func aHistoryKeepsTheNewestLooks() {
    var history = HeartbeatHistory()
    for _ in 0..<200 { history.add(seconds: 0.001) }
    history.addMissed()
    #expect(history.samples.count == 120 && history.samples.last == -1 && history.count == 200)
    #expect(abs(history.sum - 0.2) < 1e-9)
  }

  /// Checks of hosts with similar names are spread over the whole period.
  @Test func checksAreSpreadEvenly() {
    var tenths = [Int](repeating: 0, count: 10)
    for number in 0..<2000 { tenths[Int(FleetWatch.part(of: "h\(number)") * 10)] += 1 }
    #expect(tenths.allSatisfy { (150...250).contains($0) }, "\(tenths)")
  }
}
