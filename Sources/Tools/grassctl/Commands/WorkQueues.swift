import ArgumentParser
import KernelViews
import Output

struct WorkQueues: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "workqueues", abstract: "Lists the kernel's pools of workers, what they do, and what waits for them.",
    discussion: """
      A pool of a CPU has its number, others serve several. Works are running, scheduled (next for a worker that is busy), \
      pending in a pool, or inactive: held back by their queue. JSON tells apart by kind: queue, pool, worker, work.
      """)

  @OptionGroup var source: SourceOptions
  @OptionGroup var output: OutputOptions

  @Flag(help: "List the queues, too.")
  var queues = false

  func run() throws {
    let kernel = try source.openKernel()
    let table = try reporting { try kernel.workQueues() }
    if output.json {
      writeOutput(JSON.lines(Self.json(table)))
    } else {
      var text = Table([
        ("POOL", .right), ("CPU", .right), ("NICE", .right), ("WORKERS", .right), ("IDLE", .right), ("PENDING", .right),
      ])
      for pool in table.pools {
        text.add([
          "\(pool.id)", pool.cpu.map { "\($0)" } ?? "-", "\(pool.nice)", "\(pool.workers)", "\(pool.idle)",
          "\(pool.pending)",
        ])
      }
      writeOutput(text.text())
      text = Table([
        ("STATE", .left), ("POOL", .right), ("WORKER", .right), ("QUEUE", .left), ("OWNER", .left), ("FUNCTION", .left),
      ])
      for work in table.works {
        text.add([
          work.state.rawValue, work.pool.map { "\($0)" } ?? "-", work.tid.map { "\($0)" } ?? "-", work.queue.printable,
          work.function.ownerName, work.function.symbol ?? "\(work.function.address)",
        ])
      }
      writeOutput(text.text())
      if queues {
        text = Table([("ACTIVE", .right), ("INACTIVE", .right), ("FLAGS", .left), ("QUEUE", .left)])
        for queue in table.queues {
          text.add([
            "\(queue.active)", "\(queue.inactive)", "0x\(String(queue.flags, radix: 16))", queue.name.printable,
          ])
        }
        writeOutput(text.text())
      }
    }
    try reportFaults(table.faults)
  }

  private static func json(_ table: WorkQueueTable) -> [JSON] {
    func place(_ code: CodePlace?) -> [(String, JSON)] {
      [
        ("function", code.map { .string("\($0.address)") } ?? .null),
        ("symbol", code?.symbol.map { .string($0) } ?? .null), ("owner", code.map { .string($0.ownerName) } ?? .null),
      ]
    }
    var lines: [JSON] = table.queues.map { queue in
      .object([
        ("kind", .string("queue")), ("name", .bytes(queue.name)), ("flags", .unsigned(queue.flags)),
        ("active", .integer(queue.active)), ("inactive", .integer(queue.inactive)),
        ("address", .string("\(queue.address)")),
      ])
    }
    lines += table.pools.map { pool in
      .object([
        ("kind", .string("pool")), ("id", .integer(pool.id)), ("cpu", pool.cpu.map { .integer($0) } ?? .null),
        ("nice", .integer(pool.nice)), ("workers", .integer(pool.workers)), ("idle", .integer(pool.idle)),
        ("pending", .integer(pool.pending)),
      ])
    }
    lines += table.workers.map { worker in
      .object(
        [
          ("kind", .string("worker")), ("pool", .integer(worker.pool)), ("tid", .integer(worker.tid)),
          ("comm", .bytes(worker.comm)),
        ] + place(worker.function))
    }
    lines += table.works.map { work in
      .object(
        [
          ("kind", .string("work")), ("state", .string(work.state.rawValue)),
          ("pool", work.pool.map { .integer($0) } ?? .null), ("tid", work.tid.map { .integer($0) } ?? .null),
          ("queue", .bytes(work.queue)), ("address", .string("\(work.address)")),
        ] + place(work.function))
    }
    return lines
  }
}
