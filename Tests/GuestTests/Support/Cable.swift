import Foundation
import Glibc
import Scratch
import Testing

/// What lies between a client and a TCP link: it can be cut, leads to wherever it is plugged in, and counts what it carries.
final class Cable {
  /// Where clients connect to.
  let url: String
  private let program: RunningProgram
  private let folder: String
  private let log: String

  private static let script = """
    import asyncio, os, signal, sys
    open_pairs, carried = set(), 0
    async def carry(reader, writer, counts):
        global carried
        try:
            while piece := await reader.read(1 << 18):
                carried += len(piece) * counts
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
    async def connect(reader, writer):
        try:
            other, to = await asyncio.open_connection("127.0.0.1", int(open(sys.argv[1]).read()))
        except OSError:
            return writer.close()
        pair = (writer, to)
        open_pairs.add(pair)
        await asyncio.gather(carry(reader, to, 0), carry(other, writer, 1))
        open_pairs.discard(pair)
    def cut():
        for pair in list(open_pairs):
            for one in pair: one.transport.abort()
    def tell():
        with open(sys.argv[2] + ".new", "w") as file: file.write(str(carried))
        os.rename(sys.argv[2] + ".new", sys.argv[2])
    async def main():
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        # Threads of the tests hold signals back, and what they start inherits that.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, cut)
        loop.add_signal_handler(signal.SIGUSR2, tell)
        print("port", server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
    asyncio.run(main())
    """

  /// A cable of which all files lie in `folder`, plugged into a link's URL.
  init(to url: String, in folder: String) throws {
    (self.folder, log) = (folder, "\(folder)/cable.log")
    try Self.plug(url, folder)
    program = try RunningProgram(
      "/usr/bin/python3", ["-c", Self.script, "\(folder)/cable.to", "\(folder)/cable.carried"], log: log)
    var port: Substring?
    for _ in 0..<600 where port == nil {
      port = program.said.split(separator: "\n").first { $0.hasPrefix("port ") }?.dropFirst(5)
      usleep(50_000)
    }
    self.url = "tcp://127.0.0.1:\(try #require(port, "no cable: \(program.said)"))"
  }

  private static func plug(_ url: String, _ folder: String) throws {
    let port = try #require(url.split(separator: ":").last)
    try String(port).write(toFile: "\(folder)/cable.to", atomically: true, encoding: .utf8)
  }

  /// Plugs it in elsewhere: connections that are made from now on lead there.
  func plug(into url: String) throws { try Self.plug(url, folder) }

  /// Ends all connections.
  func cut() { program.signal(SIGUSR1) }

  /// How many bytes came through it from where it is plugged in.
  func carried() throws -> Int {
    let file = "\(folder)/cable.carried"
    try? FileManager.default.removeItem(atPath: file)
    program.signal(SIGUSR2)
    for _ in 0..<6000 {
      if let text = try? String(contentsOfFile: file, encoding: .utf8) { return try #require(Int(text)) }
      usleep(5000)
    }
    Issue.record("the cable does not answer: \(program.said)")
    return 0
  }

  func stop() { program.stop() }
}
