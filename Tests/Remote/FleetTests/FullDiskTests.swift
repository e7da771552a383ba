import CRegion
import Foundation
import Glibc
import Scratch
import Testing

@testable import Fleet

/// A disk that is really full: a small file system that only the service sees.
@Suite(.enabled(if: geteuid() == 0, "mounting takes root")) struct FullDiskTests {
  private func wait(until isSo: () throws -> Bool) rethrows -> Bool {
    let start = ContinuousClock.now
    while ContinuousClock.now - start < .seconds(60) {
      if try isSo() { return true }
      usleep(100_000)
    }
    return false
  }

  @Test func theServiceSaysSoGoesOnWatchingAndRecovers() throws {
    let scratch = try Scratch()
    let device = try StandInDevice(path: scratch.file("region"), findings: 16384)
    defer { device.stop() }
    let folder = scratch.file("disk")
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let file = try scratch.write(
      """
      listen: 127.0.0.1:0
      database: \(folder)/fleet.db
      detectors_every: 0
      hosts: [{name: a, url: "shm://\(device.path)", period: 0.05}]
      """, to: "fleet.yaml")
    // The mount is the service's own: it goes with it.
    let service = try RunningService(file, in: "mount -t tmpfs -o size=64m none '\(folder)'")
    defer { service.stop() }
    let url = try service.ready()
    // What lies in its file system, seen from here.
    let disk = "/proc/\(service.process)/root\(folder)"
    device.log()
    #expect(try wait { try RunningService.answer("\(url)/api/v1/findings").text.contains("hung-task") })
    #expect(try RunningService.answer("\(url)/healthz").status == "200")

    // Somebody fills it to the last byte.
    let filler = open("\(disk)/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    try #require(filler >= 0, "\(String(cString: strerror(errno)))")
    var piece = [UInt8](repeating: 1, count: 4096)
    while write(filler, &piece, piece.count) > 0 {}
    #expect(errno == ENOSPC)
    close(filler)
    for _ in 0..<300 { device.log() }
    #expect(
      try wait {
        device.log()
        return try RunningService.answer("\(url)/healthz").status == "503"
      })
    let metrics = try RunningService.answer("\(url)/metrics").text
    #expect(metrics.contains("\ngrass_fleet_store_up 0\n"))
    #expect(try RunningService.answer("\(url)/").text.contains("fault"), "the page says so")
    // It goes on watching: it looks, and states change.
    func looks() throws -> Double {
      let line = try RunningService.answer("\(url)/metrics").text.split(separator: "\n").first {
        $0.hasPrefix("grass_fleet_looks_total ")
      }
      return Double(line?.split(separator: " ").last ?? "") ?? 0
    }
    let before = try looks()
    #expect(try wait { try looks() > before + 10 })
    device.log(severity: GRASS_SEVERITY_WARNING)
    #expect(try wait { try RunningService.answer("\(url)/api/v1/fleet").text.contains("\"state\": \"stuck\"") })

    // There is room again: what came meanwhile is kept, each once, without anybody's doing.
    #expect(unlink("\(disk)/filler") == 0)
    #expect(
      try wait {
        device.log()
        return try RunningService.answer("\(url)/healthz").status == "200"
      })
    let count = Int(device.count)
    // Each that the device logged is another.
    #expect(
      try wait {
        let text = try RunningService.answer("\(url)/api/v1/findings?open=no&limit=5000").text
        return (try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [Any])?.count == count
      })
    #expect(try RunningService.answer("\(url)/metrics").text.contains("\ngrass_fleet_store_up 1\n"))
  }
}
