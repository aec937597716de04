"""What a Pulumi program may declare: pricing models, their Stripe resources, and the providers behind them."""
