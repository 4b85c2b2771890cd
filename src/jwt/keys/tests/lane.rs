//! Issuers that share a lane: many of them are not many calls at once.

use super::*;
use crate::fetch::fake::response;
use fake::{Mood, one};
use tokio::sync::Semaphore;

fn in_lane(settings: Settings, lane: &Arc<Semaphore>) -> Settings {
    Settings {
        lane: Some(Arc::clone(lane)),
        ..settings
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_issuers_are_fetched_a_few_at_a_time() {
    let clock = clock();
    let lane = Arc::new(Semaphore::new(8));
    let busy = Arc::new(Mutex::new((0_usize, 0_usize)));
    let body = one("k");
    let service = {
        let busy = Arc::clone(&busy);
        fetch::Service::new(tower::service_fn(move |_: fetch::Request| {
            let (busy, body) = (Arc::clone(&busy), body.clone());
            async move {
                {
                    let mut busy = busy.lock().expect("no panic");
                    busy.0 += 1;
                    busy.1 = busy.1.max(busy.0);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                busy.lock().expect("no panic").0 -= 1;
                Ok(response(200, &[], &body))
            }
        }))
    };
    let each = |at: usize| {
        let url = url(&format!("https://i{at}.example/jwks"));
        in_lane(
            settings(
                &format!("i{at}"),
                Source::JwksUrl(url),
                Some(service.clone()),
            ),
            &lane,
        )
    };
    let plane = Plane::start((0..1000).map(each).collect(), &clock);
    let mut watch = plane.handle.watch();
    let all = watch.wait_for(|snapshot| snapshot.issuers.iter().all(|keys| keys.set.is_some()));
    drop(all.await.expect("it runs"));
    assert_eq!(busy.lock().expect("no panic").1, 8);
}

#[tokio::test(start_paused = true)]
async fn those_that_hang_hold_up_the_others_for_the_time_of_a_call_and_nobody_outside_the_lane() {
    let clock = clock();
    let lane = Arc::new(Semaphore::new(2));
    let (dark, west, home) = (
        Origin::new("dark", &clock),
        Origin::new("west", &clock),
        Origin::new("home", &clock),
    );
    dark.set(Mood::Hangs);
    let plane = Plane::start(
        vec![
            in_lane(by_url("dark", &dark), &lane),
            in_lane(by_url("gloom", &dark), &lane),
            in_lane(by_url("west", &west), &lane),
            by_url("home", &home),
        ],
        &clock,
    );
    let began = clock.boot();
    plane.until_attempts(3, 1).await;
    assert!(clock.boot().since(began) < Duration::from_secs(1));
    plane.until_attempts(2, 1).await;
    assert!(clock.boot().since(began) < Duration::from_secs(11));
    assert_eq!(plane.kids(2), ["first"]);
}
