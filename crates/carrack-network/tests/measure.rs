mod world;
use std::time::Instant;
use world::{Namespace, World};
#[test]
#[allow(clippy::print_stdout)]
fn measure() {
    let mut world = World::new();
    world.state = tempfile::tempdir_in("/dev/shm").unwrap();
    let _keep = world.attach("warm", &[]);
    let nss: Vec<_> = (0..60).map(|_| Namespace::new("m")).collect();
    for (label, ports) in [("no port", &[][..]), ("one port", &["8080:80"][..])] {
        let ports = world::ports(ports);
        let mut a = vec![];
        let mut d = vec![];
        let mut cpu = vec![];
        let half = if ports.is_empty() { &nss[..30] } else { &nss[30..] };
        world.host.enter(|| {
            for ns in half {
                std::thread::sleep(std::time::Duration::from_millis(6));
                let t = Instant::now();
                let at =
                    carrack_network::attach(world.state.path(), &world.bridge, "x", ns.fd(), &ports).unwrap();
                let e = t.elapsed();
                let c2 = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                cpu.push((c2.tv_sec - c.tv_sec) * 1000000 + (c2.tv_nsec - c.tv_nsec) / 1000);
                let t = Instant::now();
                carrack_network::detach(world.state.path(), &at).unwrap();
                a.push(e.as_micros());
                d.push(t.elapsed().as_micros());
            }
        });
        cpu.sort();
        println!("attach cpu min {} median {}", cpu[0], cpu[cpu.len() / 2]);
        a.sort();
        d.sort();
        println!(
            "{label}: attach min {} median {} max {} us; detach min {} median {} us",
            a[0],
            a[a.len() / 2],
            a[a.len() - 1],
            d[0],
            d[d.len() / 2]
        );
    }
}
