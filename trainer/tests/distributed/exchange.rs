//! The exchange of gradients, between ranks that are threads of this test.

use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use tch::{Device, Kind, Tensor, nn};
use trainer::distributed::{DistributedError, Exchange, Place, World};
use trainer::native;
use trainer::parameters::Parameters;

const TIMEOUT: Duration = Duration::from_mins(1);

/// What `work` returns on each of `ranks` ranks.
pub(crate) fn on_ranks<T: Send>(ranks: u32, work: impl Fn(World) -> T + Sync) -> Vec<T> {
    on_patient_ranks(ranks, TIMEOUT, work)
}

/// The same for ranks that wait for each other at most `timeout`.
fn on_patient_ranks<T: Send>(ranks: u32, timeout: Duration, work: impl Fn(World) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = |rank| Place {
        rank,
        ranks,
        local_rank: rank,
        host: "127.0.0.1".into(),
        port,
        serves: rank == 0,
        attempt: "0".into(),
        threads: None,
    };
    std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = (0..ranks)
            .map(|rank| scope.spawn(move || work(World::join(&place(rank), timeout, Device::Cpu).unwrap())))
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn distributed_ranks_talk() {
    let heard = on_ranks(3, |world| {
        let rank = world.rank();
        let mut values = [f64::from(rank) + 0.25, 1.0];
        world.sum(&mut values).unwrap();
        let texts = world.gather("x".repeat(rank as usize * 3).as_bytes()).unwrap();
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let weights = Tensor::from_slice(&[f64::from(rank) + 7.0, 1.0]);
        let counts = Tensor::from_slice(&[i64::from(rank) + 3]);
        world.broadcast(&[weights.shallow_clone(), counts.shallow_clone()]).unwrap();
        let any = (world.any(rank == 2).unwrap(), world.any(false).unwrap());
        let agreed = world.agree(if rank == 1 { Err(anyhow::anyhow!("no such file")) } else { Ok(5) });
        let agreed = agreed.map_err(|e| e.to_string());
        let told =
            |first: &str, own: &str| if own == first { vec![] } else { vec![format!("{first} and {own}")] };
        world.same("data", "a", told).unwrap();
        let differs = world.same("data", if rank == 2 { "b" } else { "a" }, told).unwrap_err().to_string();
        Rc::new(world).leave().unwrap();
        (values, lengths, weights.double_value(&[0]), counts.int64_value(&[0]), any, agreed, differs)
    });
    for (rank, (values, lengths, weight, count, any, agreed, differs)) in heard.into_iter().enumerate() {
        assert_eq!((values, lengths), ([3.75, 3.0], vec![0, 3, 6]));
        assert_eq!((weight, count, any), (7.0, 3, (true, false)));
        let message = if rank == 1 {
            "no such file".to_owned()
        } else {
            format!("rank {rank} stops because rank 1 failed: no such file")
        };
        assert_eq!(agreed, Err(message));
        assert!(differs.starts_with("rank 2 has another data than rank 0: a and b;"), "{differs}");
    }
}

/// Made-up numbers; libtorch's random ones are drawn by all threads together.
fn waves(count: i64, frequency: f64) -> Tensor {
    (Tensor::arange(count, (Kind::Float, Device::Cpu)) * frequency + frequency).sin()
}

/// Two layers of a trunk and two heads, of which one sample uses one.
struct Model {
    store: nn::VarStore,
    parameters: Parameters,
}

impl Model {
    fn new() -> Self {
        let store = nn::VarStore::new(Device::Cpu);
        for (number, (part, name)) in
            [("backbone", "a"), ("backbone", "b"), ("output", "0"), ("output", "1")].into_iter().enumerate()
        {
            let mut weight = (&store.root() / part).zeros(name, &[6, 6]);
            tch::no_grad(|| weight.copy_(&(waves(36, number as f64 + 1.3) * 0.5).view([6, 6])));
        }
        let parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
        Self { store, parameters }
    }

    /// Adds the gradient of sample `i` as `1/8` of a batch of eight.
    fn learn(&self, i: i64) {
        let variables = self.store.variables();
        let x = waves(6, 2.1 * i as f64 + 0.7);
        let h = variables["backbone.a"].matmul(&x).tanh();
        let h = variables["backbone.b"].matmul(&h).tanh();
        // Of eight samples only number 5 uses the second head.
        let head = if i == 5 { "output.1" } else { "output.0" };
        let loss = variables[head].matmul(&h).square().sum(Kind::Float) / 8.0;
        native::backward(&loss, self.parameters.tensors()).unwrap();
    }

    fn gradients(&self) -> Vec<f32> {
        Vec::try_from(self.parameters.gradients()).unwrap()
    }
}

/// Gradients of three steps, of which `share` names the samples of each rank.
fn exchanged(
    ranks: u32,
    bytes: usize,
    overlaps: bool,
    share: fn(u32, u32) -> Vec<i64>,
) -> Vec<Vec<Vec<f32>>> {
    on_ranks(ranks, move |world| {
        let mut model = Model::new();
        let mut exchange = Exchange::new(&world, &model.parameters, bytes, overlaps).unwrap();
        let mut steps = Vec::new();
        for _ in 0..3 {
            model.parameters.zero_gradients();
            let samples = share(world.rank(), world.ranks());
            for (place, sample) in samples.iter().enumerate() {
                if place + 1 == samples.len() {
                    exchange.arm();
                }
                model.learn(*sample);
            }
            exchange.finish(&world).unwrap();
            steps.push(model.gradients());
        }
        drop(exchange);
        Rc::new(world).leave().unwrap();
        steps
    })
}

#[test]
fn distributed_gradients_are_those_of_one_process() {
    let mut alone = Model::new();
    alone.parameters.zero_gradients();
    (0..8).for_each(|i| alone.learn(i));
    let wanted = alone.gradients();
    assert!(wanted.iter().filter(|g| **g != 0.0).count() > 100);
    // All samples dealt out; the last rank without any.
    let dealt = |rank: u32, ranks: u32| (0..8).filter(|i| i % i64::from(ranks) == i64::from(rank)).collect();
    let without = |rank: u32, ranks: u32| {
        if rank + 1 == ranks {
            Vec::new()
        } else {
            (0..8).filter(|i| i % i64::from(ranks - 1) == i64::from(rank)).collect()
        }
    };
    let shares: [fn(u32, u32) -> Vec<i64>; 2] = [dealt, without];
    // A bucket for each tensor, and one for all of the trunk.
    for (ranks, bytes) in [(2, 1), (3, 1), (3, 1 << 20)] {
        for (share, overlaps) in shares.into_iter().flat_map(|share| [(share, true), (share, false)]) {
            let steps = exchanged(ranks, bytes, overlaps, share);
            for gradients in steps.iter().flatten() {
                assert_eq!(gradients, &steps[0][0], "ranks and steps differ");
                let distance = gradients.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(distance < 1e-6, "{ranks} ranks, {bytes} bytes, {overlaps}: {distance}");
            }
        }
    }
}

/// A rank that stops because of another says so in the other's name, whichever of them comes first.
#[test]
fn distributed_loss_of_a_rank_is_told_to_the_others() {
    let told = on_patient_ranks(2, Duration::from_secs(5), |world| {
        if world.rank() == 1 {
            let (other, message) = ("2".to_owned(), "part-00003.parquet: checksum".to_owned());
            world.fail(&DistributedError::Other { rank: 1, other, message }.into());
            return None;
        }
        // Rank 1 never comes.
        world.sum(&mut [0.0]).err()
    });
    let Some(DistributedError::Other { rank: 0, other, message }) = &told[0] else { panic!("{told:?}") };
    assert_eq!((other.as_str(), message.as_str()), ("2", "part-00003.parquet: checksum"));
}
